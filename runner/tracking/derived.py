"""A tracker that is one file, made of the journal: written whole at first, appended to from then on.

Whatever a killed process left of the file is replaced by the next one, so no point is missing or double in it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..runs.history import find_superseded, note_steps, repeated
from ..runs.journal import events
from .stores import Tracked

Event = dict[str, Any]
#: Bytes that are appended to a file at once.
PART = 1 << 20


@dataclass
class Format:
    """How a file is written, in bytes that follow from the journal alone."""

    mark: str
    """Words near the beginning of every such file: what has them not is not replaced."""
    head: Callable[[], bytes]
    """What the file begins with."""
    encode: Callable[[Event], bytes]
    """An event of the journal, of whose `values` each is the last one of its name and step."""


class Derived:
    """A run on its way to a file."""

    def __init__(self, tracked: Tracked, path: Path, format: Format) -> None:
        self.tracked, self.path, self.format = tracked, path, format
        self._last: dict[str, int] | None = None
        """Name → the last step in the file; None before it was written by this process, and after an error."""

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def behind(self) -> bool:
        """Whether the journal has more than the file, or there is no file."""
        return self.tracked.behind or self.tracked.is_of_another_journal or not self.path.exists()

    def check(self) -> None:
        """Errors: ForeignPath for a file that another program wrote."""
        files.refuse_overwriting(self.path, self.format.mark)

    def replay(self) -> bool:
        """Write what the journal has and the file has not. Whether the run has ended."""
        if self._last is None:
            self.check()
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            last = self._appended()
            self._last = self._rewritten() if last is None else last
        except BaseException:
            self._last = None
            raise
        return bool(self.tracked.values.get("ended"))

    def end(self, event: Event) -> None:
        """Note the end of a run whose journal could not take it."""
        files.append(self.path, self.format.encode(event))
        self._note(event)
        with contextlib.suppress(OSError):
            self.tracked.write()

    def _appended(self) -> dict[str, int] | None:
        """The last steps once what is new was appended; None where something in the file has to be replaced."""
        if self._last is None or self.tracked.is_of_another_journal or not self.path.exists():
            return None
        last, content, begin = dict(self._last), io.BytesIO(), self.tracked.values.get("offset", 0)
        offset = begin
        for event, offset in events(self.tracked.directory, begin):  # noqa: B007
            if repeated(last, event):
                return None
            note_steps(last, event)
            content.write(self.format.encode(event))
            self._note(event)
            if content.tell() > PART:
                files.append(self.path, content.getvalue())
                content = io.BytesIO()
        if offset != begin:
            files.append(self.path, content.getvalue())
            self.tracked.read_to(offset)
        return last

    def _rewritten(self) -> dict[str, int]:
        """The last steps once the whole file was written anew."""
        superseded = find_superseded(events(self.tracked.directory))
        last: dict[str, int] = {}
        offset = 0
        with files.partial_file(self.path) as partial, partial.open("xb") as stream:
            stream.write(self.format.head())
            for event, offset in events(self.tracked.directory):
                if event["event"] == "metrics":
                    step = event["step"]
                    values = event["values"].items()
                    kept = {name: value for name, value in values if superseded.get((name, step), 0) <= offset}
                    event = event | {"values": kept}
                note_steps(last, event)
                stream.write(self.format.encode(event))
                self._note(event)
        self.tracked.read_to(offset)
        return last

    def _note(self, event: Event) -> None:
        """Whether the run has ended as far as the file has it."""
        if event["event"] in ("started", "resumed", "ended"):
            self.tracked.values["ended"] = event["event"] == "ended"
