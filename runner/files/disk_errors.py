"""Messages for files that cannot be written or read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .. import terminal
from ..errors import DiskError


def disk_error(error: OSError, run: Path | None = None) -> DiskError:
    """The message for an error while files of a run, or others, are written."""
    if run is not None and not run.exists():
        return DiskError(
            f"{run} was moved or removed while the run wrote to it. Put it back, then resume: checkpoint.resume=auto"
        )
    place = error.filename or run
    if error.errno == errno.ENAMETOOLONG:
        return DiskError(
            f"{place} cannot be made: a name in it is longer than file systems take, 255 bytes. Shorten it."
        )
    if error.errno == errno.EACCES and place and _is_closed(Path(os.fsdecode(place))):
        return DiskError(f"{place} cannot be read: {error.strerror}. Make it readable for the user who runs this.")
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.EISDIR):
        return DiskError(f"{place} cannot be made: {error.strerror}. Choose another folder, such as hydra.run.dir=DIR.")
    closed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    mend = "Make it writable for the user who runs this" if closed else "Make room there"
    if run is not None and (run / "checkpoints").is_dir():
        go_on = f"{terminal.pasted('hydra.run.dir', run)} checkpoint.resume=auto"
        advice = f"The last checkpoint is kept. {mend}, then resume: {go_on}"
    else:
        advice = f"{mend}, or choose another folder: hydra.run.dir=DIR (of a sweep: hydra.sweep.dir=DIR)"
    return DiskError(f"{place} cannot be written: {error.strerror or error}. {advice}")


def _is_closed(path: Path) -> bool:
    """Whether a file, or a folder above it, may not be read by this process."""
    return any(
        os.path.exists(part) and not os.access(part, os.R_OK if part == path else os.X_OK)
        for part in (path, *path.parents)
    )
