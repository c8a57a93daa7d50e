"""The run directory and its journal: what happened, one JSON object a line, only ever appended to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Names in a run directory.
CONFIG, OVERRIDES, ENVIRONMENT = "config.yaml", "overrides.yaml", "environment.json"
JOURNAL, LOG, RESULT, TRACKED = "journal.jsonl", "train.log", "result.json", "mlflow.json"
CHECKPOINTS, PLOTS, RANKS, FAILURE = "checkpoints", "plots", "ranks", "failed.rank0.json"


class Journal:
    """Appends to the journal of a run directory.

    Events: `started`; `metrics` (step, epoch, values); `dataset`; `tags`; `artifact` (path, folder); `note` (text);
    `ended` (status, reason). Every event has `time`, seconds since 1970.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL

    def append(self, event: str, **fields: Any) -> None:
        """Add one event; it survives the end of the process."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def metrics(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Add the metrics of a step."""
        self.append("metrics", step=step, epoch=epoch, values=values)

    def artifact(self, path: str, folder: str = "") -> None:
        """Say that a file or folder of the run directory belongs to the run's results."""
        self.append("artifact", path=path, folder=folder)


def events(directory: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """(event, offset behind it) of every complete line from a byte offset on."""
    path = directory / JOURNAL
    if not path.exists():
        return
    with path.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset
