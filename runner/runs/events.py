"""The events of a journal, one a line."""

from __future__ import annotations

import json
from typing import Any, Literal, TypedDict

from .. import stored


class _Event(TypedDict):
    event: str
    time: float


class Metrics(_Event):
    """Numbers of a step."""

    step: int
    epoch: int
    values: dict[str, float]


class _Dataset(_Event):
    name: str
    digest: str
    source: str
    profile: dict[str, int]


class Dataset(_Dataset, total=False):
    """The data set of a run; `digests`: of each split; `compared`: where an evaluation sees less of a split, the digest
    of that; `about`: as `data.about` has it."""

    digests: dict[str, str]
    compared: dict[str, str]
    about: dict[str, Any]


class Tags(_Event):
    """Tags of the run."""

    values: dict[str, str]


class Note(_Event):
    """A note for the user."""

    text: str


class _Checkpoint(_Event):
    name: str
    better: bool


class Checkpoint(_Checkpoint, total=False):
    """A checkpoint that was written; `final`: what the run ended with."""

    final: bool


class Artifact(_Event):
    """A file or folder of the results."""

    path: str
    folder: str


class Model(_Event):
    """An export."""

    path: str


class Migrated(_Event):
    """A config that was brought to a later version; `config`: its digest since then."""

    config: str


class Ended(_Event):
    """The end of an attempt."""

    status: Literal["FINISHED", "STOPPED_EARLY", "FAILED", "KILLED"]
    reason: str
    exit_code: int


#: Name of an event in the journal → its shape.
EVENTS: dict[str, Any] = {
    "started": _Event, "resumed": _Event, "metrics": Metrics, "dataset": Dataset, "tags": Tags, "note": Note,
    "checkpoint": Checkpoint, "artifact": Artifact, "model": Model, "migrated": Migrated,
    "ended": Ended,
}  # fmt: skip
#: A line with a text in place of a number contains one of these.
NO_NUMBERS = tuple(text.encode() for text in stored.NO_NUMBERS)
#: The prefix of the machine's metrics.
SYSTEM = "system/"
#: Seconds since 1970 at which calendars end.
LATEST = 253_402_300_799


def is_of_training(event: dict[str, Any]) -> bool:
    """Whether an event has training metrics, which count optimizer steps; those of the machine count seconds."""
    return event["event"] == "metrics" and not next(iter(event["values"]), "").startswith(SYSTEM)


def parse(line: bytes) -> dict[str, Any] | None:
    """The event in a line of a journal; None for a line that is torn or damaged, or of an unknown kind."""
    try:
        event = json.loads(line)
        kind = event.get("event") if isinstance(event, dict) else None
        if not isinstance(kind, str) or kind not in EVENTS:
            return None
        stored.check(event, EVENTS[kind])
        # Texts for NaN and infinity are rare, and copying every event costs as much as reading it.
        if any(text in line for text in NO_NUMBERS):
            event = stored.typed(event, EVENTS[kind])
    except (ValueError, RecursionError):
        return None
    return event if 0 <= event["time"] < LATEST else None
