"""Turns exceptions into errors that users can fix, with messages safe to print."""

from __future__ import annotations

import re

from .. import terminal
from ..config import credentials
from ..errors import UNWRITABLE, OutOfMemory, UserError
from ..files.disk_errors import RUN_DIR, disk_error


def refusal_of(error: BaseException, remedy: str = RUN_DIR) -> UserError | None:
    """The exception as a UserError; None for a defect, which needs a traceback. `remedy`: of `disk_error`."""
    match error:
        case UserError():
            return error
        case OSError() if error.errno in UNWRITABLE:
            return disk_error(error, remedy=remedy)
        case MemoryError():
            return OutOfMemory.of(error)
    return None


#: Characters of a word and of a line that are shown whole; a value may have as many as a command line holds.
WORD, LINE = 400, 4000


def message_of(error: UserError) -> str:
    """Its message, without control characters and passwords."""
    message = "\n".join(map(_shortened, terminal.visible(str(error)).split("\n")))
    # Hydra's errors quote config files, which may contain what no argument does.
    return credentials.masked(message) if credentials.carries(message) else message


def _shortened(line: str) -> str:
    words = re.sub(rf"\S{{{WORD},}}", lambda word: _ends_of(word[0], WORD), line)
    return words if len(words) <= LINE else _ends_of(words, LINE)


def _ends_of(text: str, room: int) -> str:
    return f"{text[: room // 2]}…{text[-room // 4 :]}"
