"""Messages for files that cannot be written or read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .. import terminal
from ..errors import DiskError

#: What else can be done where a command trains, and where one has the option.
RUN_DIR = "choose another folder: hydra.run.dir=DIR (of a sweep: hydra.sweep.dir=DIR)"
OUTPUT = "name another place: --output"


def disk_error(error: OSError, place: Path | None = None, remedy: str = RUN_DIR) -> DiskError:
    """The message for a file that cannot be written, or read.

    `place` is told where the error names no file, as one of an open file does not; `remedy` is what can be done instead
    of making room or giving rights, if anything.
    """
    path = error.filename or place or "A file"
    if error.errno == errno.ENAMETOOLONG:
        return DiskError(
            f"{path} cannot be made: a name in it is longer than file systems take, 255 bytes. Shorten it."
        )
    if error.errno == errno.EACCES and error.filename and _is_closed(Path(os.fsdecode(error.filename))):
        return DiskError(f"{path} cannot be read: {error.strerror}. Make it readable for the user who runs this.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.EISDIR):
        advice = f" {remedy[0].upper()}{remedy[1:]}" if remedy else ""
        return DiskError(f"{path} cannot be made: {error.strerror}.{advice}")
    advice = f"{_mending(error)}, or {remedy}" if remedy else f"{_mending(error)}, then try again."
    return DiskError(f"{path} cannot be written: {error.strerror or error}. {advice}")


def run_disk_error(error: OSError, run: Path) -> DiskError:
    """The message for files of a run that is being trained: how it is resumed, if it can be."""
    if not run.exists():
        return DiskError(
            f"{run} was moved or removed while the run wrote to it. Put it back, then resume: checkpoint.resume=auto"
        )
    if not (run / "checkpoints").is_dir() or error.errno == errno.ENAMETOOLONG:
        return disk_error(error, run)
    go_on = f"{terminal.pasted('hydra.run.dir', run)} checkpoint.resume=auto"
    return DiskError(
        f"{error.filename or run} cannot be written: {error.strerror or error}. The last checkpoint is kept. "
        f"{_mending(error)}, then resume: {go_on}"
    )


def _mending(error: OSError) -> str:
    closed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return "Make it writable for the user who runs this" if closed else "Make room there"


def _is_closed(path: Path) -> bool:
    """Whether a file, or a folder above it, may not be read by this process."""
    return any(
        os.path.exists(part) and not os.access(part, os.R_OK if part == path else os.X_OK)
        for part in (path, *path.parents)
    )
