"""What the command measures of its machine while a run trains."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from runner import runs
from runner.launch.system_metrics import Gpus, SystemMetrics
from runner.runs.journal import Journal, events

#: The names that MLflow's documentation has, for a machine without GPUs.
NAMES = {
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage", "system/disk_usage_percentage", "system/disk_usage_megabytes",
    "system/disk_available_megabytes", "system/network_receive_megabytes", "system/network_transmit_megabytes",
}  # fmt: skip
#: A driver with two GPUs, the second of which tells no power.
DRIVER = """
static int known[2] = {0, 1};
extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned number, void** handle) { *handle = &known[number]; return 0; }
int nvmlDeviceGetMemoryInfo(void*, unsigned long long* memory) {
  memory[0] = 8000000000ULL; memory[1] = 6000000000ULL; memory[2] = 2000000000ULL; return 0; }
int nvmlDeviceGetUtilizationRates(void* handle, unsigned* rates) { rates[0] = 50 + *(int*)handle; return 0; }
int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) { *milliwatts = 75000; return *(int*)handle ? 3 : 0; }
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) { *milliwatts = 300000; return 0; }
}
"""


@pytest.fixture
def begun(tmp_path):
    Journal(tmp_path).append("started", command=[])
    return tmp_path


def test_the_machine_is_measured_under_mlflow_s_names(begun):
    metrics = SystemMetrics(begun, 1.0)
    sum(number * number for number in range(1_000_000))
    values = metrics.measure()
    assert values.keys() >= NAMES
    for name, value in values.items():
        assert 0 <= value <= (100 if name.endswith("percentage") else 1e9)
    assert values["system/cpu_utilization_percentage"] > 0
    free = shutil.disk_usage(begun).free / 1e6
    assert values["system/disk_available_megabytes"] == pytest.approx(free, rel=0.05)


def test_points_are_written_when_it_is_time_and_say_nothing_of_training(begun):
    metrics = SystemMetrics(begun, 0.0)
    metrics.look()
    metrics.every_s = 1000.0
    metrics.look()
    metrics.look()
    written = [event for event, _ in events(begun) if event["event"] == "metrics"]
    assert len(written) == 2
    assert "system/disk_usage_percentage" in written[0]["values"]
    Journal(begun).append("metrics", step=10_000, epoch=0, values=written[0]["values"])
    Journal(begun).metrics(7, 0, {"train/loss": 1.0})
    assert runs.state(begun).step == 7


def test_a_journal_that_takes_no_more_is_left_to_the_worker(begun):
    (begun / "journal.jsonl").unlink()
    metrics = SystemMetrics(begun, 0.0)
    (begun / "journal.jsonl").mkdir()
    metrics.look()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_gpus_are_measured_by_their_driver_s_library(tmp_path):
    library = tmp_path / "driver.so"
    build = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(build, input=DRIVER, text=True, check=True)
    values = Gpus(str(library)).measure()
    assert values["gpu_0_memory_usage_percentage"] == 25
    assert values["gpu_0_memory_usage_megabytes"] == 2000
    assert (values["gpu_0_power_usage_watts"], values["gpu_0_power_usage_percentage"]) == (75, 25)
    assert (values["gpu_0_utilization_percentage"], values["gpu_1_utilization_percentage"]) == (50, 51)
    assert "gpu_1_power_usage_watts" not in values


def test_without_a_driver_there_are_no_gpus(tmp_path):
    assert Gpus("libof-no-driver.so").measure() == {}
