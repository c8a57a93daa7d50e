"""A per-user cache of compiled libraries: kept for later processes, and used only if they are complete."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ... import files
from ...errors import ForeignPath
from ...processes import locked

log = logging.getLogger("runner")
T = TypeVar("T")
#: Seconds to wait for another process that compiles the same library.
PATIENCE_S = 60.0
#: Bytes appended to a complete library; loaders ignore what follows a library's end.
DIGEST_BYTES = 32
#: A larger file is not one of these libraries, the largest of which has about 2 MB.
MOST_BYTES = 1 << 26


def load(name: str, build: Callable[[Path], None], open_: Callable[[Path], T]) -> T:
    """The result of `open_` for the library `name`, which `build` writes to a given path if no process has yet.

    If it can be neither kept nor waited for, this process compiles its own. Errors: OSError if that is impossible too,
    and what `build` raises.
    """
    try:
        return open_(_kept(name, build))
    except (OSError, ForeignPath) as error:
        log.warning(
            "Nothing compiled can be kept (%s): every process compiles for itself. Set XDG_CACHE_HOME to a folder that "
            "can be written.",
            error,
        )
    with tempfile.TemporaryDirectory(prefix="runner-") as folder:
        build(Path(folder) / name)
        return open_(Path(folder) / name)


def _kept(name: str, build: Callable[[Path], None]) -> Path:
    """The path of a complete library, for all processes of this user. Errors: OSError, TimeoutError if locked."""
    target = files.cache_folder() / name
    if _is_whole(target):
        return target
    lock = target.with_suffix(".lock")

    def long() -> None:
        log.warning("Waiting for another process that compiles the same. Which one: fuser %s", lock)

    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, PATIENCE_S, long) as descriptor:
        if descriptor is None:
            raise TimeoutError(f"{lock} has been locked by another process for {PATIENCE_S:g} s")
        if not _is_whole(target):
            with files.partial_file(target) as partial:
                build(partial)
                _seal(partial)
    return target


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            content = path.read_bytes()
            return content[-DIGEST_BYTES:] == _digest(content[:-DIGEST_BYTES])
    return False


def _seal(path: Path) -> None:
    """Append the mark of a complete library, and flush it to the disk."""
    content = path.read_bytes()
    with path.open("ab") as stream:
        stream.write(_digest(content))
        stream.flush()
        os.fsync(stream.fileno())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
