"""Devices, threads and what has to be in the environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runner import config as cfg
from runner import device
from runner.errors import ConfigError


@pytest.mark.parametrize(("flags", "expected"), [("fpu avx2 fma", "5"), ("fpu sse4_2", None)])
def test_mkl_is_told_of_the_instructions_of_an_amd_processor(tmp_path, monkeypatch, flags, expected):
    about = tmp_path / "cpuinfo"
    about.write_text(f"vendor_id\t: AuthenticAMD\nflags\t\t: {flags} avx\n")
    monkeypatch.setattr(device, "CPUINFO", about)
    assert device.environment(3).get("MKL_DEBUG_CPU_TYPE") == expected
    assert device.environment(3)["OMP_NUM_THREADS"] == "3"


def test_other_processors_are_left_alone(tmp_path, monkeypatch):
    about = tmp_path / "cpuinfo"
    about.write_text("vendor_id\t: GenuineIntel\nflags\t\t: avx2 avx512f\n")
    monkeypatch.setattr(device, "CPUINFO", about)
    assert "MKL_DEBUG_CPU_TYPE" not in device.environment(None)
    assert device.environment(None)["MKL_NUM_THREADS"] == str(os.cpu_count())


def test_a_gpu_that_is_not_there_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"train\.device=gpu: this Paddle sees no GPU\. .*train\.device=cpu"):
        device.choose(cfg.Train(device=cfg.Device.gpu))


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults by /proc")
def test_freed_memory_is_kept_for_the_next_step():
    code = (
        "import resource, sys; from runner import device; import paddle\n"
        "if sys.argv[1] == 'keep': device.tune_malloc()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "paddle.ones([8 << 20]); before = faults()\n"
        "for _ in range(100): paddle.ones([8 << 20])\n"
        "print(faults() - before)"
    )
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True).stdout)
        for how in ("keep", "give")
    }
    assert faults["keep"] < faults["give"] / 10


def test_the_free_memory_is_that_of_the_container_divided_among_the_processes(tmp_path, monkeypatch):
    monkeypatch.delenv(device.AT_ONCE, raising=False)
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal:       24 kB\nMemAvailable:       5 kB\n")
    assert device.free_memory(tmp_path, facts) == 5120
    for name, content in (("max", "2000"), ("current", "1700"), ("stat", "anon 9\ninactive_file 100\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    assert device.free_memory(tmp_path, facts) == 400
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "2")
    assert device.free_memory(tmp_path, facts) == 200
    (tmp_path / "memory.max").write_text("max")
    assert device.free_memory(tmp_path, facts) == 2560


LOADING = """
import io, os, sys
from runner import device
if sys.argv[1] == "object":
    sys.stderr = type("Tee", (), {"write": lambda self, text: None})()
before = os.path.exists("/proc/self/fd/2")
device.load_paddle(None)
assert "paddle" in sys.modules and os.path.exists("/proc/self/fd/2") == before
print("loaded")
"""


@pytest.mark.parametrize(("how", "redirected"), [("object", ""), ("none", "2>&-"), ("none", "")])
def test_paddle_is_loaded_whatever_standard_error_is(how, redirected):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {how} {redirected}', sys.executable, LOADING], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("loaded\n", "")
