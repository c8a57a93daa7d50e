"""Notes for the user: on the screen, in the log and in the journal, which the report and MLflow show."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import terminal
from ..errors import DiskError
from ..runs.journal import Journal

log = logging.getLogger("runner")


def tell(journal: Journal, text: str, show: Callable[[str], None] = terminal.say) -> None:
    """Write a note everywhere; `show` prints it."""
    log.info("%s", text)
    show(text)
    journal.append("note", text=text)


@contextlib.contextmanager
def errors_as_notes(directory: Path, journal: Journal, what: str) -> Iterator[None]:
    """Within the context errors become notes: a finished run must not fail because a plot could not be drawn."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and DiskError.is_of_a_write(error, directory):
            # A full disk has a message of its own.
            raise
        log.exception("%s", what)
        tell(journal, f"{what}: {type(error).__name__}: {error}. The rest of the run is complete")
