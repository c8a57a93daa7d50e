"""Compiles operators with Paddle's extension tools, once per user, Paddle version and source."""

from __future__ import annotations

import contextlib
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

from ... import processes
from ...errors import ConfigError
from . import compiled

REMEDY = "or set model.custom_relu=false"


def register(name: str, sources: list[Path]) -> None:
    """Makes the operator `name` known to Paddle in this process; must be called once per process and operator.

    The first process compiles and keeps the library (`compiled.load`), concurrent ones wait for it, later ones load it
    in milliseconds. Errors: ConfigError when a compiler is missing or fails, or nothing can be written.
    """
    is_known = False

    def build(target: Path) -> None:
        nonlocal is_known
        if not is_known:
            with _compiled(name, sources) as library:
                is_known = True
                shutil.copy(library, target)

    def open_(library: Path) -> None:
        if not is_known:
            try:
                # The tool's own `load` would start a Python that imports Paddle just to see that nothing has changed.
                paddle.utils.cpp_extension.load_op_meta_info_and_register_op(str(library))
            except RuntimeError as error:
                raise OSError(f"{library} cannot be loaded: {error}") from error

    try:
        compiled.load(f"{name}-{_key(sources)}.so", build, open_)
    except OSError as error:
        raise ConfigError(f"The operator {name} cannot be compiled: {error}. Fix that, {REMEDY}.") from error


def _key(sources: list[Path]) -> str:
    version = (paddle.__version__, paddle.version.cuda(), platform.machine())
    digest = hashlib.sha256(repr(version).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return f"paddle{paddle.__version__}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _compiled(name: str, sources: list[Path]) -> Iterator[Path]:
    """Compile an operator and register it with Paddle; its library is deleted after the context."""
    compiler = _compiler()
    os.environ.setdefault("CC", compiler)
    os.environ.setdefault("CXX", compiler)
    # The tool passes its folder through a shell unquoted, which fails for a home with a space in its name.
    with tempfile.TemporaryDirectory(prefix="runner-") as folder:
        try:
            with _quiet():
                paddle.utils.cpp_extension.load(name, [str(source) for source in sources], build_directory=folder)
        except RuntimeError as error:
            raise ConfigError(
                f"Compiling the operator {name} with {compiler} failed, see the compiler's messages above: "
                f"install a compiler Paddle {paddle.__version__} accepts, {REMEDY}."
            ) from error
        yield Path(folder) / name / f"{name}.so"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compiler() -> str:
    words = processes.compiler()
    if not words:
        raise ConfigError(
            f"The custom operator needs a C++ compiler and {' or '.join(processes.compilers())} is not on PATH: "
            f"install g++ (Debian: apt-get install g++), {REMEDY}."
        )
    if paddle.is_compiled_with_cuda() and not _has_nvcc():
        raise ConfigError(
            f"The custom operator needs nvcc, which is neither on PATH nor in CUDA_HOME: "
            f"install the CUDA toolkit {paddle.version.cuda()} or set CUDA_HOME, {REMEDY}."
        )
    return shlex.join(words)


def _has_nvcc() -> bool:
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    return bool(shutil.which("nvcc")) or any((Path(home) / "bin/nvcc").exists() for home in homes if home)
