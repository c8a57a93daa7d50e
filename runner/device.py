"""Where a run computes: device, threads, memory, and every flag of Paddle and its libraries."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib.util
import logging
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from . import config as cfg
from .config.rules.devices import without_gpu
from .errors import ConfigError
from .processes import silent_stderr

if TYPE_CHECKING:
    from paddle import nn

log = logging.getLogger("runner")

CPUINFO = Path("/proc/cpuinfo")
#: The variable with the number of a sweep's jobs that run concurrently on this machine.
AT_ONCE = "RUNNER_AT_ONCE"
#: The variable with the number of a process's GPU, as Paddle and its launcher know it.
SELECTED_GPU = "FLAGS_selected_gpus"
#: Bytes of addresses, not of memory: Paddle 3.3.1 with one thread.
LEAST_ADDRESSES = 1 << 30
#: Parameters of glibc's `mallopt`, and their defaults.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_ALWAYS = 2**31 - 1


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(cgroup: Path = Path("/sys/fs/cgroup"), facts: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that this process may still take: its share of the free memory.

    Free memory, here or in the container, is divided by the run's processes on this machine and concurrent sweep jobs.
    """
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError, KeyError):
        free = 1024 * _numbers(facts)["MemAvailable:"]
    with contextlib.suppress(OSError, ValueError, KeyError):
        most, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        # The page cache is reclaimed when memory is short.
        free = min(free, most - used + _numbers(cgroup / "memory.stat")["inactive_file"])
    return max(0, free) // (int(os.environ.get("PADDLE_LOCAL_SIZE", "1")) * int(os.environ.get(AT_ONCE, "1")))


def _numbers(path: Path) -> dict[str, int]:
    """Name → number, from a kernel file with one entry per line."""
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines()}


def environment(threads: int | None, local_world_size: int = 1, waits_for_others: bool = False) -> dict[str, str]:
    """The environment variables that a process needs before it loads Paddle.

    threads: null for all cores, divided by the run's processes on this machine and concurrent sweep jobs.
    `waits_for_others`: whether processes that decode images for it need its cores while it waits for them.
    """
    processes = local_world_size * int(os.environ.get(AT_ONCE, "1"))
    count = str(threads or max(1, cores() // processes))
    variables = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count} | home()
    if _is_amd_with_avx2():
        # Paddle 3.3.1 brings MKL 2019, which keeps to SSE on processors of other makers unless it is told that the
        # instructions are there: matrix products run 2.5 times as fast.
        variables["MKL_DEBUG_CPU_TYPE"] = "5"
    if waits_for_others:
        # Threads of OpenMP wait actively for so many milliseconds; by default for 200, which decoding would have had.
        # Within a step there are no such gaps.
        variables["KMP_BLOCKTIME"] = os.environ.get("KMP_BLOCKTIME", "10")
    return variables


def require_memory() -> None:
    """Errors: ConfigError if the address-space limit is below what Paddle reserves.

    Without this check the process would fail later, in one of many places.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise ConfigError(
            f"A process may use {limit >> 20} MB of addresses here (ulimit -v), of which Paddle takes "
            f"{LEAST_ADDRESSES >> 20} MB before it computes anything. Raise that limit: ulimit -v unlimited"
        )


def _is_amd_with_avx2() -> bool:
    with contextlib.suppress(OSError):
        about = CPUINFO.read_text(encoding="utf-8", errors="replace")
        return "AuthenticAMD" in about and " avx2 " in about
    return False


def import_paddle() -> None:
    """Import Paddle without its handler of SIGTERM, which prints a C++ trace.

    Signals are blocked until it is imported: interrupting its initialisation raises unrelated errors.
    """
    if threading.current_thread() is not threading.main_thread():
        importlib.import_module("paddle")
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        importlib.import_module("paddle")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if came:
        signal.raise_signal(came[0])


def load_paddle(threads: int | None) -> None:
    """Import Paddle quietly, set up as in a run, in a process that prints a table or JSON.

    threads: null for all cores; their number changes the last bits.
    """
    require_memory()
    os.environ.update(environment(threads))
    os.environ.setdefault("GLOG_minloglevel", "2")
    with silent_stderr():
        import_paddle()


def is_cpu_build() -> bool:
    """Whether the installed Paddle is the one without GPUs, as its package's name tells; imports no Paddle."""
    return _is_installed("paddlepaddle") and not _is_installed("paddlepaddle-gpu")


def _is_installed(package: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(package))
    return False


def gpus() -> int:
    """How many GPUs Paddle sees: those that CUDA_VISIBLE_DEVICES leaves, with numbers from 0."""
    import paddle

    return paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0


def own_gpu(devices: Sequence[int] = ()) -> int:
    """Number of the GPU of this process: the one that its parent chose, else the first of `devices`, else 0.

    Errors: ConfigError if there is no such GPU; Paddle would report that later, in one of many places.
    """
    number = int(os.environ.get(SELECTED_GPU, "").partition(",")[0] or next(iter(devices), 0))
    if number >= (count := gpus()):
        raise ConfigError(
            f"launch.devices: a process is to use GPU {number}, and Paddle sees {count}, numbered from 0 "
            f"(CUDA_VISIBLE_DEVICES may hide others). Use launch.nproc_per_node={count}, other launch.devices, or "
            "train.device=cpu."
        )
    return number


def choose(config: cfg.Train, devices: Sequence[int] = ()) -> str:
    """Set Paddle's device, threads and flags; returns `cpu` or `gpu`.

    devices: numbers of the GPUs that were asked for. Errors: ConfigError where a GPU is asked for and there is none.
    """
    import paddle

    available = gpus() > 0
    if config.device is cfg.Device.cpu or not available:
        for problem in without_gpu(config, devices):
            raise ConfigError(problem)
    place = "gpu" if available and config.device is not cfg.Device.cpu else "cpu"
    paddle.device.set_device(f"gpu:{own_gpu(devices)}" if place == "gpu" else "cpu")
    beside = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    paddle.base.core.set_num_threads(int(environment(config.threads, beside)["OMP_NUM_THREADS"]))
    if place == "gpu":
        _tune_gpu()
    else:
        tune_malloc()
    return place


def tune_malloc() -> None:
    """Keep freed memory in the process for the next step, or the system would hand out and clear the same pages again.

    By default glibc returns blocks above about 32 MB, and the end of its heap, at once.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _ALWAYS)


def restore_malloc() -> None:
    """Undo `tune_malloc`: freed memory goes back to the system again, including what is free now."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in _DEFAULTS.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def _tune_gpu() -> None:
    """Let cuDNN choose algorithms by measuring.

    Paddle's own choice of channels-last layouts (`incubate.autotune`) stays off: Paddle 3.3.1 hides it from shapes, but
    not from what reads tensors in other ways, such as operators of this package. Not verified on a GPU.
    """
    import paddle

    for name in ("FLAGS_cudnn_exhaustive_search", "FLAGS_cudnn_batchnorm_spatial_persistent"):
        # Paddle raises for a flag that this build does not have.
        with contextlib.suppress(ValueError):
            paddle.set_flags({name: True})


def move_to_cpu(*networks: nn.Layer) -> None:
    """Switch to the CPU and these networks to float32; does nothing if that is already so.

    GPUs round the factors of float32 products to fewer bits (TF32), and mixed precision rounds more.
    """
    if not is_cpu():
        import paddle

        paddle.device.set_device("cpu")
        for network in networks:
            network.to(device="cpu")
            network.float()


def is_cpu() -> bool:
    """Whether Paddle computes on the CPU."""
    import paddle

    return paddle.device.get_device() == "cpu"


#: Below the home folder: where Paddle 3.3.1 writes what it traces, wherever caches are said to be.
TRACED = ".cache/paddle/to_static_tmp"


@functools.cache
def home() -> dict[str, str]:
    """Environment variables that give children a writable HOME; empty if it is writable.

    Containers run as users without one, and clusters mount it read-only. The temporary one is removed with this
    process.
    """
    home = os.path.expanduser("~")
    if os.path.isabs(home) and _can_be_written(Path(home) / TRACED):
        return {}
    try:
        variables = {"HOME": _temporary().name}
    except OSError as error:
        log.warning("The home folder %s cannot be written, nor a temporary one (HOME, TMPDIR): %s", home, error)
        return {}
    log.warning(
        "%s: a temporary one is used, so each run compiles its operators again. Set HOME to a writable one.",
        f"The home folder {home} cannot be written" if os.path.isabs(home) else "There is no home folder",
    )
    # Credentials of servers are still read from the original home folder.
    if os.path.isabs(home) and (netrc := Path(home) / ".netrc").is_file():
        variables["NETRC"] = os.environ.get("NETRC", str(netrc))
    return variables


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="runner-home-")


def _can_be_written(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
