"""What a user reads of an error, where it is one that a user can mend."""

from __future__ import annotations

from .. import terminal
from ..config import credentials
from ..errors import UNWRITABLE, OutOfMemory, UserError
from ..files.disk_errors import disk_error


def refusal_of(error: BaseException) -> UserError | None:
    """The error as one with a remedy; None for a defect, which wants a traceback."""
    match error:
        case UserError():
            return error
        case OSError() if error.errno in UNWRITABLE:
            return disk_error(error)
        case MemoryError():
            return OutOfMemory.of(error)
    return None


def message_of(error: UserError) -> str:
    """Its message as it may be shown: nothing that a terminal obeys, no password."""
    message = terminal.visible(str(error))
    # A file of configs may hold what no word of the command does, and Hydra's errors repeat it.
    return credentials.masked(message) if credentials.carries(message) else message
