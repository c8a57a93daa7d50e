"""Errors a user can mend, each with the exit code it ends the command with."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from . import terminal

#: Exit code of a command that a signal stopped → the signal as a user knows it.
STOPPED = {129: "SIGHUP, as when a terminal is closed", 130: "Ctrl-C", 143: "SIGTERM"}
#: What a disk answers that takes no more.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}


class UserError(Exception):
    """Something outside the program is wrong. The message names it and says what to do.

    It is shown without a traceback.
    """

    exit_code = 1


class ConfigError(UserError):
    """The configuration cannot be composed or makes no sense."""

    exit_code = 2


class DataError(UserError):
    """Images or labels are missing or unusable."""

    exit_code = 3


class CheckpointError(UserError):
    """Weights or a run's state are missing, damaged or of another network."""

    exit_code = 3


class Damaged(CheckpointError):
    """A file of a run is not as the run wrote it, or cannot be read."""


class Diverged(UserError):
    """A loss or a weight is not finite any more."""

    exit_code = 4


class ProcessLost(UserError):
    """A process of the run ended without saying why."""

    exit_code = 5


class ServerLost(UserError):
    """A tracking server or store does not answer."""

    exit_code = 5


class OutOfMemory(UserError):
    """A process gets no more memory."""

    exit_code = 5

    @classmethod
    def of(cls, error: MemoryError) -> OutOfMemory:
        """What a user reads of what Python or Paddle says."""
        said = str(error).strip().splitlines()
        return cls(
            f"There is no more memory{f' ({said[0]})' if said else ''}. Lower data.batch_size, raise train.accumulate, "
            "or raise the limit of the container or shell (ulimit -v)."
        )


class DiskError(UserError):
    """A file of the run cannot be written, or not be read."""

    exit_code = 3

    @staticmethod
    def is_of_a_write(error: OSError, run: Path) -> bool:
        """Whether the disk of the run, and not some other file, is what failed."""
        if not run.exists():
            return True
        return error.errno in UNWRITABLE and str(error.filename or run).startswith(str(run))

    @classmethod
    def of(cls, error: OSError, run: Path | None = None) -> DiskError:
        """What a user reads of an error while the files of a run are written."""
        advice = (
            "Make room there or make it writable, or choose another folder: hydra.run.dir=DIR "
            "(of a sweep: hydra.sweep.dir=DIR)"
        )
        if run is not None and (run / "checkpoints").is_dir():
            advice = (
                "The last checkpoint is kept. Make room there or make it writable, then go on: "
                f"{terminal.pasted('hydra.run.dir', run)} checkpoint.resume=auto"
            )
        if run is not None and not run.exists():
            return cls(
                f"{run} was moved or removed while the run wrote to it. Put it back, then go on: checkpoint.resume=auto"
            )
        place = error.filename or run
        if error.errno == errno.ENAMETOOLONG:
            return cls(f"{place} cannot be made: a name in it is longer than file systems take, 255 bytes. Shorten it.")
        if error.errno == errno.EACCES and place and _is_closed(Path(os.fsdecode(place))):
            return cls(f"{place} cannot be read: {error.strerror}. Make it readable for the user who runs this.")
        return cls(f"{place} cannot be written: {error.strerror or error}. {advice}")


class ForeignPath(UserError):
    """A file or folder that is not this package's to read, replace or send: somebody else's, or outside its place."""

    exit_code = 3


class ExportError(UserError):
    """A network cannot be written as a file for another engine."""

    exit_code = 2


class RunFailed(UserError):
    """A run ended without a result."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _is_closed(path: Path) -> bool:
    """Whether a file, or a folder above it, may not be read by this process."""
    return any(
        os.path.exists(part) and not os.access(part, os.R_OK if part == path else os.X_OK)
        for part in (path, *path.parents)
    )


def nearest(name: str, valid: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the valid name most like `name`, else an empty string."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
