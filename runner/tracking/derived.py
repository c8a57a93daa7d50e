"""Trackers that are a single file derived from the journal: written as a whole at first, then appended to.

What a killed process left in the file is replaced by the next one, so no point is missing or duplicated.
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
from .stores import Delivery

Event = dict[str, Any]
#: Bytes that are appended at a time.
PART = 1 << 20


@dataclass
class Format:
    """How a file is encoded, in bytes that depend only on the journal."""

    mark: str
    """Bytes near the beginning of every such file; a file without them is not replaced."""
    head: Callable[[], bytes]
    """The beginning of the file."""
    encode: Callable[[Event], bytes]
    """An encoded event of the journal; its `values` are the last ones of their name and step."""


class Derived:
    """A run that is being written to a file."""

    def __init__(self, tracked: Delivery, path: Path, format: Format) -> None:
        self.tracked, self.path, self.format = tracked, path, format
        self._last: dict[str, int] | None = None
        """Name → the last step in the file; None before this process has written it, and after an error."""

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def behind(self) -> bool:
        """Whether the journal is ahead of the file, or there is no file."""
        return self.tracked.behind or self.tracked.is_of_another_journal or not self.path.exists()

    def check(self) -> None:
        """Errors: ForeignPath for a file that another program wrote."""
        files.refuse_overwriting(self.path, self.format.mark)

    def replay(self) -> bool:
        """Write what the file lacks. Returns whether the run has ended."""
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
        """Record the end of a run whose journal could not record it."""
        files.append(self.path, self.format.encode(event))
        self._note(event)
        with contextlib.suppress(OSError):
            self.tracked.write()

    def _appended(self) -> dict[str, int] | None:
        """The last steps after appending; None if something in the file has to be replaced."""
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
        """The last steps after rewriting the whole file."""
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
        """Note how far the file has come. Returns whether the run has ended."""
        if event["event"] in ("started", "resumed", "ended"):
            self.tracked.values["ended"] = event["event"] == "ended"
