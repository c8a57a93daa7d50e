"""What a user reads of an error, where it is one that a user can mend."""

from __future__ import annotations

import re

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


#: Characters of a word and of a line that are shown whole; a value may have as many as a command line holds.
WORD, LINE = 400, 4000


def message_of(error: UserError) -> str:
    """Its message as it may be shown: nothing that a terminal obeys, no password."""
    message = "\n".join(map(_shortened, terminal.visible(str(error)).split("\n")))
    # A file of configs may hold what no word of the command does, and Hydra's errors repeat it.
    return credentials.masked(message) if credentials.carries(message) else message


def _shortened(line: str) -> str:
    words = re.sub(rf"\S{{{WORD},}}", lambda word: _ends_of(word[0], WORD), line)
    return words if len(words) <= LINE else _ends_of(words, LINE)


def _ends_of(text: str, room: int) -> str:
    return f"{text[: room // 2]}…{text[-room // 4 :]}"
