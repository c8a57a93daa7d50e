"""The load of the machine while a run trains, under the names that MLflow's own system metrics have.

The command measures, since it only waits otherwise; workers take no part. The sources are Linux's /proc and NVIDIA's
library; what a machine lacks is omitted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
from pathlib import Path

from .. import runs
from ..errors import Damaged
from ..runs.events import SYSTEM
from ..runs.journal import Journal

#: Columns of /proc/stat: idle time (idle and iowait), and how many there are before those of guests.
IDLE, COLUMNS = slice(3, 5), 8
#: Bytes, and kilobytes as /proc has them, in a megabyte of MLflow's.
MB, KB_IN_MB = 1e6, 1e6 / 1024
NVML = "libnvidia-ml.so.1"


class SystemMetrics:
    """Adds the load of this machine to a run's journal at an interval.

    The step is the seconds since the run began, an integer, so that points after a resumption follow the earlier ones.
    """

    def __init__(self, directory: Path, every_s: float) -> None:
        self.directory, self.every_s = directory, every_s
        self._journal, self._began = Journal(directory), runs.began(directory)
        self._ticks, self._network = _ticks(), _network()
        self._gpus = Gpus()
        self._next = time.monotonic() + every_s

    def look(self) -> None:
        """Measure if it is due. The worker reports a journal that cannot be written."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every_s
        if values := self.measure():
            with contextlib.suppress(OSError, Damaged):
                step = max(0, int(time.time() - self._began))
                self._journal.append("metrics", step=step, epoch=0, values=values)

    def measure(self) -> dict[str, float]:
        """Name → value. Processors since the last call, the network since the first; megabytes are 10⁶ bytes."""
        values = self._cpu() | _memory() | _disk(self.directory) | self._traffic() | self._gpus.measure()
        return {f"{SYSTEM}{name}": round(value, 3) for name, value in values.items()}

    def _cpu(self) -> dict[str, float]:
        before, self._ticks = self._ticks, _ticks()
        spent = [now - then for now, then in zip(self._ticks, before, strict=False)]
        if sum(spent) <= 0:
            return {}
        return {"cpu_utilization_percentage": 100 * (1 - sum(spent[IDLE]) / sum(spent))}

    def _traffic(self) -> dict[str, float]:
        names = ("network_receive_megabytes", "network_transmit_megabytes")
        pairs = zip(names, _network(), self._network, strict=False)
        return {name: (now - first) / MB for name, now, first in pairs}


def _proc(name: str) -> list[str]:
    """The lines of a file of /proc; none without the file."""
    with contextlib.suppress(OSError):
        return Path("/proc", name).read_text(encoding="utf-8").splitlines()
    return []


def _ticks() -> list[int]:
    """What all processors did since the machine started, in ticks of its clock; empty if unknown."""
    return [int(number) for line in _proc("stat")[:1] for number in line.split()[1 : 1 + COLUMNS]]


def _memory() -> dict[str, float]:
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in _proc("meminfo") if len(line.split()) > 1}
    if not kilobytes.keys() >= {"MemTotal", "MemAvailable"}:
        return {}
    used = kilobytes["MemTotal"] - kilobytes["MemAvailable"]
    return {
        "system_memory_usage_megabytes": used / KB_IN_MB,
        "system_memory_usage_percentage": 100 * used / kilobytes["MemTotal"],
    }


def _disk(directory: Path) -> dict[str, float]:
    """Of the file system that the run is on."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return {}
    # Blocks that are reserved for root count neither as used nor as available.
    return {
        "disk_usage_percentage": 100 * usage.used / max(usage.used + usage.free, 1),
        "disk_usage_megabytes": usage.used / MB,
        "disk_available_megabytes": usage.free / MB,
    }


def _network() -> list[int]:
    """Bytes that all interfaces have received and sent; empty if unknown."""
    interfaces = [line.rpartition(":")[2].split() for line in _proc("net/dev")[2:]]
    return [sum(int(columns[place]) for columns in interfaces) for place in (0, 8)] if interfaces else []


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Gpus:
    """NVIDIA's GPUs by the library of their driver; none if it is not installed.

    The driver does not know which GPUs the run has (`CUDA_VISIBLE_DEVICES`): all of the machine's are measured.
    """

    def __init__(self, library: str = NVML) -> None:
        self._handles: list[ctypes.c_void_p] = []
        try:
            self._library = ctypes.CDLL(library)
            count = ctypes.c_uint()
            if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
                return
            for number in range(count.value):
                handle = ctypes.c_void_p()
                if self._library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) == 0:
                    self._handles.append(handle)
        except (OSError, AttributeError):
            return

    def measure(self) -> dict[str, float]:
        """Memory, utilization and power of each GPU, as far as the driver tells."""
        values: dict[str, float] = {}
        for number, handle in enumerate(self._handles):
            memory, utilization, power, limit = _Memory(), _Utilization(), ctypes.c_uint(), ctypes.c_uint()
            own: dict[str, float] = {}
            if self._told("nvmlDeviceGetMemoryInfo", handle, memory):
                own["memory_usage_megabytes"] = memory.used / MB
                own["memory_usage_percentage"] = 100 * memory.used / max(memory.total, 1)
            if self._told("nvmlDeviceGetUtilizationRates", handle, utilization):
                own["utilization_percentage"] = utilization.gpu
            if self._told("nvmlDeviceGetPowerUsage", handle, power):
                own["power_usage_watts"] = power.value / 1000
                if self._told("nvmlDeviceGetEnforcedPowerLimit", handle, limit) and limit.value:
                    own["power_usage_percentage"] = 100 * power.value / limit.value
            values |= {f"gpu_{number}_{name}": value for name, value in own.items()}
        return values

    def _told(self, function: str, handle: ctypes.c_void_p, answer: ctypes.Structure | ctypes.c_uint) -> bool:
        return getattr(self._library, function, lambda *_: os.EX_UNAVAILABLE)(handle, ctypes.byref(answer)) == 0
