"""Compiling the kernels once per user, source and processor; without a compiler there are none."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import processes
from ..models.ops import compiled

log = logging.getLogger("runner")

SOURCES = Path(__file__).parent / "src"
FLAGS = [
    "-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp", "-fvisibility=hidden",
    # Neither changes a result: they allow the compiler to turn comparisons into blends.
    "-fno-math-errno", "-fno-trapping-math",
]  # fmt: skip
#: Sources compiled without fused multiply-add, so that products are rounded as in NumPy and Paddle: the same bits.
ROUNDED = {"images.cc", "changes.cc"}


class Unavailable(Exception):
    """There are no kernels on this machine; the message says why."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    The first process compiles (2 s); others wait for it, later ones load in a millisecond. Errors: Unavailable without
    Linux, a compiler, Paddle's libraries or any folder that can be written.
    """
    try:
        return compiled.load(f"kernels-{key()}.so", _compile, lambda path: ctypes.CDLL(str(path)))
    except OSError as error:
        raise Unavailable(f"{error}. TMPDIR=FOLDER names another folder for what is temporary.") from error


@functools.cache
def _paddle_libraries() -> Path:
    """The folder of Paddle's bundled libraries for matrix products and threads."""
    import paddle

    folder = Path(paddle.__file__).parent / "libs"
    if missing := [name for name in ("libmklml_intel.so", "libiomp5.so") if not (folder / name).exists()]:
        raise Unavailable(f"this Paddle comes without {' and '.join(missing)}")
    return folder


def sgemm() -> ctypes.c_void_p:
    """Address of the matrix product in Paddle's library."""
    return ctypes.cast(ctypes.CDLL(str(_paddle_libraries() / "libmklml_intel.so")).cblas_sgemm, ctypes.c_void_p)


@functools.cache
def key() -> str:
    """A digest of everything that the library, or measurements of it, depend on."""
    import paddle

    libraries = str(_paddle_libraries())
    flags = (FLAGS, sorted(ROUNDED))
    facts = (flags, platform.machine(), _processor(), os.environ.get("CXX"), paddle.__version__, libraries)
    digest = hashlib.sha256(repr(facts).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """This processor's instruction set, which may differ between machines that share a home folder."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _compile(path: Path) -> None:
    """Compile objects in parallel, then link them against the very threading library that Paddle uses."""
    compiler, libraries = processes.compiler(), _paddle_libraries()
    if not compiler:
        raise Unavailable("there is no C++ compiler (Debian: apt-get install g++)")
    with tempfile.TemporaryDirectory(prefix="runner-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {source: f"{folder}/{source.stem}.o" for source in sorted(SOURCES.glob("*.cc"))}
        commands = [
            [*compiler, *_flags(source), "-c", str(source), "-o", object_file]
            for source, object_file in objects.items()
        ]
        list(pool.map(_run, commands))
        threads = str(libraries / "libiomp5.so")
        _run([*compiler, "-shared", *objects.values(), threads, f"-Wl,-rpath,{libraries}", "-o", str(path)])


def _flags(source: Path) -> list[str]:
    return [*FLAGS, "-ffp-contract=off"] if source.name in ROUNDED else FLAGS


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        log.info("%s\n%s", shlex.join(command), done.stderr)
        raise Unavailable(f"{command[0]} failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")
