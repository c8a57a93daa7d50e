"""Files that one process at a time has for itself."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import stored
from .errors import ForeignPath
from .processes import Stopwatch

#: Seconds between two tries; seconds of waiting after which a person wants to know what for.
TRY_S, NOTE_S = 0.02, 5.0


@contextlib.contextmanager
def locked(path: Path, patience_s: float = math.inf, long: Callable[[], None] = lambda: None) -> Iterator[int | None]:
    """The descriptor of a file that this process has locked; None where another has it for longer than the patience.

    `long` is called once where it takes long. Errors: OSError where the file cannot be written,
    ForeignPath for a link or a folder.
    """
    if path.is_symlink() or path.is_dir():
        raise ForeignPath(f"{path} is in the way, and no file of this package. Move it away.")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor if lock(descriptor, patience_s, long) else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process has a file locked; what may not be written can be asked about too. Errors: Damaged."""
    with stored.opened(path) as stream:
        return stream is not None and not lock(stream.fileno(), patience_s=0)


def lock(descriptor: int, patience_s: float = math.inf, long: Callable[[], None] = lambda: None) -> bool:
    """Lock an open file until it is closed. Whether that was possible within the patience; the rest as in `locked`."""
    waited, told = Stopwatch(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if waited.seconds() >= patience_s:
                return False
        if not told and waited.seconds() > NOTE_S:
            told = True
            long()
        time.sleep(TRY_S)
