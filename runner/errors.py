"""Errors that a user can fix, each with its exit code."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

#: Exit code of a command that a signal stopped → the signal as a user knows it.
STOPPED = {129: "SIGHUP, as when a terminal is closed", 130: "Ctrl-C", 143: "SIGTERM"}
#: Error numbers of a full disk.
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


class CallbackFailed(UserError):
    """A user callback raised an error."""


class Diverged(UserError):
    """A loss or a weight is no longer finite."""

    exit_code = 4


class ProcessLost(UserError):
    """A process of the run ended without saying why."""

    exit_code = 5


class ServerLost(UserError):
    """A tracking server or store does not answer."""

    exit_code = 5


class OutOfMemory(UserError):
    """A process ran out of memory."""

    exit_code = 5

    @classmethod
    def of(cls, error: MemoryError) -> OutOfMemory:
        """The user's message for an out-of-memory error of Python or Paddle."""
        lines = str(error).strip().splitlines()
        return cls(
            f"Out of memory{f' ({lines[0]})' if lines else ''}. Lower data.batch_size or data.image_size, "
            "raise train.accumulate, or raise the limit of the container or shell (ulimit -v)."
        )


class DiskError(UserError):
    """A file of the run cannot be written or read."""

    exit_code = 3

    @staticmethod
    def is_of_a_write(error: OSError, run: Path) -> bool:
        """Whether the error is of the run's disk, not of some other file."""
        if not run.exists():
            return True
        return error.errno in UNWRITABLE and str(error.filename or run).startswith(str(run))


class ForeignPath(UserError):
    """A file or folder that this package must not read, replace or send: foreign, or outside its folder."""

    exit_code = 3


class ExportError(UserError):
    """A network cannot be written as a file for another engine."""

    exit_code = 2


class RunFailed(UserError):
    """A run ended without a result."""

    def __init__(self, message: str, exit_code: int, kind: str = "") -> None:
        """`kind`: the `kind_of` of the error that one of its processes ended with."""
        super().__init__(message)
        self.exit_code, self.kind = exit_code, kind


def kind_of(error: UserError) -> str:
    """The name of an error's class in this module, by which `of_kind` re-creates it in another process."""
    if isinstance(error, RunFailed) and error.kind:
        return error.kind
    return next(base.__name__ for base in type(error).__mro__ if base.__module__ == __name__)


def of_kind(kind: str, message: str, exit_code: int) -> UserError:
    """The error of another process: of the class that `kind_of` named there, else RunFailed."""
    classes = {one.__name__: one for one in globals().values() if isinstance(one, type) and issubclass(one, UserError)}
    error_class = classes.get(kind, RunFailed)
    error = RunFailed(message, exit_code) if error_class is RunFailed else error_class(message)
    error.exit_code = exit_code
    return error


def install_extra(name: str) -> str:
    """How an optional part is installed: this package is in no index, where its name could be anybody's."""
    return f"pip install -e '.[{name}]' where its pyproject.toml is"


def nearest(name: str, valid: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the valid name most like `name`, else an empty string."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def telling_line(error: Exception) -> str:
    """The line of an error, often Paddle's, that says what is wrong; its class's name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    # Paddle puts a stack trace before the line that matters, or a hint and the operator's name after it.
    lines = [line for line in lines if line and not line.startswith("[Hint")] or [type(error).__name__]
    return next((line for line in lines if "Error: " in line or line.startswith("(")), lines[-1])
