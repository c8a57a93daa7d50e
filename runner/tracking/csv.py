"""The metrics of a run as one CSV file, a line a point: step, epoch, name, value."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..config.tracking import RUN
from .derived import Derived, Format
from .stores import Delivery

COLUMNS = ("step", "epoch", "name", "value")


def tracker(directory: Path, name: str, settings: cfg.Csv) -> Derived:
    """The tracker of a run."""
    path = files.inside(directory, settings.address.removeprefix(RUN))
    return Derived(Delivery(directory, name), path, Format(",".join(COLUMNS), lambda: _lines([COLUMNS]), encode))


def encode(event: dict[str, Any]) -> bytes:
    """The lines of an event."""
    if event["event"] != "metrics":
        return b""
    return _lines([event["step"], event["epoch"], name, value] for name, value in event["values"].items())


def _lines(rows: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return files.writable(stream.getvalue()).encode()
