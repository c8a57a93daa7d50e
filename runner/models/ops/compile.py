"""Compiles operators with Paddle's extension tools, once per user, Paddle version and source."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import paddle

from ...errors import ConfigError
from ...files import cache_folder

REMEDY = "or set model.custom_relu=false"


def register(name: str, sources: list[Path]) -> None:
    """Makes the operator `name` known to Paddle in this process; must be called once a process and operator.

    The first process compiles into `$XDG_CACHE_HOME/runner` (default `~/.cache/runner`), processes that start
    meanwhile wait for it, later ones load the library in milliseconds. Raises ConfigError when a compiler is missing
    or fails, or the folder cannot be written.
    """
    library = cache_folder() / f"{name}-{_key(sources)}.so"
    with _exclusive(library.with_suffix(".lock")):
        if library.exists():
            # The tool's own `load` would start a Python that imports Paddle just to see that nothing has changed.
            paddle.utils.cpp_extension.load_op_meta_info_and_register_op(str(library))
        else:
            _compile(name, sources, library)


def _key(sources: list[Path]) -> str:
    version = (paddle.__version__, paddle.version.cuda(), platform.machine())
    digest = hashlib.sha256(repr(version).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return f"paddle{paddle.__version__}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise ConfigError(
            f"Compiled operators are kept in {lock.parent}, which cannot be written ({error.strerror}): "
            f"set XDG_CACHE_HOME to a folder that can, {REMEDY}."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(name: str, sources: list[Path], library: Path) -> None:
    compiler = _compiler()
    os.environ.setdefault("CC", compiler)
    os.environ.setdefault("CXX", compiler)
    # The tool passes its folder through a shell unquoted: a home with a space in its name would not do.
    with tempfile.TemporaryDirectory(prefix="runner-") as folder, _quiet():
        try:
            paddle.utils.cpp_extension.load(name, [str(source) for source in sources], build_directory=folder)
        except RuntimeError as error:
            raise ConfigError(
                f"Compiling the operator {name} with {compiler} failed, see the compiler's messages above: "
                f"install a compiler Paddle {paddle.__version__} accepts, {REMEDY}."
            ) from error
        unfinished = library.with_suffix(".unfinished")
        shutil.copy(Path(folder) / name / f"{name}.so", unfinished)
        unfinished.replace(library)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compiler() -> str:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    found = [command for command in wanted if shutil.which(shlex.split(command)[0])]
    if not found:
        raise ConfigError(
            f"The custom operator needs a C++ compiler and {' or '.join(wanted)} is not on PATH: "
            f"install g++ (Debian: apt-get install g++), {REMEDY}."
        )
    if paddle.is_compiled_with_cuda() and not _has_nvcc():
        raise ConfigError(
            f"The custom operator needs nvcc, which is neither on PATH nor in CUDA_HOME: "
            f"install the CUDA toolkit {paddle.version.cuda()} or set CUDA_HOME, {REMEDY}."
        )
    return found[0]


def _has_nvcc() -> bool:
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    return bool(shutil.which("nvcc")) or any((Path(home) / "bin/nvcc").exists() for home in homes if home)
