"""The run directory and its journal: what happened, one JSON object a line, only ever appended to."""

from __future__ import annotations

import contextlib
import os
import re
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files, processes, stored
from ..errors import ConfigError, Damaged
from . import tracked as tracked_of
from .events import parse

#: Names in a run directory.
CONFIG, OVERRIDES, ENVIRONMENT = "config.yaml", "overrides.yaml", "environment.json"
JOURNAL, LOG, RESULT = "journal.jsonl", "train.log", "result.json"
PER_CLASS, MISTAKES, UNREADABLE = "per_class.json", "mistakes.json", "unreadable.txt"
CHECKPOINTS, PLOTS, RANKS = "checkpoints", "plots", "ranks"
ORIGIN, SWEEP = "resumed_from", "sweep.json"
LOCK, TRACKING_LOG = f"{RANKS}/lock", f"{RANKS}/tracking.log"
#: The tracker whose runs can be looked up and fetched again.
MLFLOW = "mlflow"

#: The checkpoint of networks that were quantized once training was over.
QUANTIZED = "quantized"
#: All that a checkpoint's folder may hold, and the folder's name.
CHECKPOINT_FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
CHECKPOINT_NAME = re.compile(rf"step-\d{{8,}}|{QUANTIZED}")
#: What stands in the folder of locks and logs.
OF_RANKS = re.compile(r"lock|tracking\.([a-z0-9_-]+\.)?(lock|log|json)|rank\d+\.log|failed\.rank\d+\.json")

#: Bytes before an offset by which a journal is known again.
MARKED = 256

#: Points that are left of a curve, more than a picture shows.
POINTS = 2000

#: Metrics that a clock gave: computed again they differ.
MEASURED = {"train/images_per_s", "final/images_per_s", "final/latency_ms_p50", "final/latency_ms_p99"}


def refuse_other_files(directory: Path) -> None:
    """Refuse a folder with files in it that are not of a run. Errors: ConfigError."""
    if not directory.is_dir() or (directory / JOURNAL).is_file():
        return
    names = sorted(path.name for path in directory.iterdir() if path.name != RANKS)
    in_ranks = sorted(path.name for path in directory.glob(f"{RANKS}/*"))
    names += [f"{RANKS}/{name}" for name in in_ranks if not OF_RANKS.fullmatch(name)]
    if names:
        few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise ConfigError(
            f"{directory} holds no run but other files ({few}), among which a run would write its own. Choose a folder "
            "that is new or empty: hydra.run.dir=DIR"
        )


class Journal:
    """Appends to the journal of a run directory.

    Events: `started` and `resumed` (command); `metrics` (step, epoch, values); `dataset`; `tags` (values); `note`
    (text); `checkpoint` (name, better, final: what the run ended with);
    `artifact` (path, folder); `model` (path of an export); `ended` (status, reason, exit_code). Every event has
    `time`, seconds since 1970.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL
        self._written: dict[tuple[int, str], float] = {}

    def continue_from(self, step: int) -> None:
        """From here on, leave out the points that an earlier attempt wrote after this step: they come again."""
        self._written = {
            (event["step"], name): value
            for event, _ in events(self.path.parent)
            if event["event"] == "metrics" and event["step"] >= step
            for name, value in event["values"].items()
        }

    def append(self, event: str, **fields: Any) -> None:
        """Add one event; it survives the end of the process. Errors: OSError; nothing is added then."""
        line = files.to_json({"event": event, "time": round(time.time(), 3), **fields})
        if self.path.is_symlink() or self.path.is_dir():
            raise Damaged(f"{self.path} is not a regular file. Bring back the one that the run wrote.")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        try:
            processes.lock(descriptor)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            files.append_to(descriptor, (b"\n" if torn else b"") + line.encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Bring what was added to the disk, so that a checkpoint is never ahead of it after a power cut."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())

    def metrics(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Add the metrics of a step, less those that an earlier attempt wrote with the same value."""
        new = {name: value for name, value in values.items() if not self._known(step, name, value)}
        if new:
            self.append("metrics", step=step, epoch=epoch, values=new)

    def _known(self, step: int, name: str, value: float) -> bool:
        written = self._written.get((step, name))
        return written is not None and (name in MEASURED or repr(written) == repr(value))

    def artifact(self, path: str, folder: str = "") -> None:
        """Say that a file or folder of the run directory belongs to the run's results."""
        self.append("artifact", path=path, folder=folder)


def events(directory: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """(event, offset behind it) of every complete line from a byte offset on, without lines that hold no event.

    Such a line a crash tore, or another version wrote. Errors: Damaged where the journal cannot be read.
    """
    with stored.opened(directory / JOURNAL) as stream:
        if stream is None:
            return
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if event := parse(line):
                yield event, offset


def mark(directory: Path, offset: int) -> str:
    """What tells whether a journal still is the one that was read up to an offset: a digest of the bytes before it."""
    with contextlib.suppress(FileNotFoundError), (directory / JOURNAL).open("rb") as stream:
        stream.seek(max(0, offset - MARKED))
        return files.text_digest(stream.read(min(offset, MARKED)).decode(errors="replace"))
    return ""


def tracked_file(tracker: str) -> str:
    """The file of a run directory that says what a tracker has of the run."""
    return f"{MLFLOW}.json" if tracker == MLFLOW else f"{RANKS}/tracking.{tracker}.json"


def tracking_lock(tracker: str) -> str:
    """The file of a run directory that is locked by whoever sends the run to a tracker."""
    return f"{RANKS}/tracking.lock" if tracker == MLFLOW else f"{RANKS}/tracking.{tracker}.lock"


def tracked(directory: Path, tracker: str = MLFLOW) -> dict[str, Any]:
    """What a tracker has of a run: `uri`, `offset` in the journal, `ended`, MLflow's `run_id`; empty before.

    Errors: Damaged.
    """
    return tracked_of.read(directory / tracked_file(tracker))


@dataclass
class History:
    """What a journal tells of a training, in one reading."""

    curves: dict[str, dict[int, float]]
    """Metric → step → value, in the order of the steps."""
    dataset: dict[str, Any]
    """The last event `dataset`; empty where there is none."""


def history(directory: Path, points: int = POINTS) -> History:
    """The curves, the last value written where a step has several, and the data set. Errors: Damaged.

    Of longer curves `points` are left: means of neighbours, and the last one as it is. While it is read a value takes
    16 bytes.
    """
    steps: dict[str, array[int]] = {}
    values: dict[str, array[float]] = {}
    dataset: dict[str, Any] = {}
    for event, _ in events(directory):
        if event["event"] == "dataset":
            dataset = event
        elif event["event"] == "metrics":
            for name, value in event["values"].items():
                steps.setdefault(name, array("q")).append(event["step"])
                values.setdefault(name, array("d")).append(value)
    return History({name: _curve(steps[name], values[name], points) for name in steps}, dataset)


def _curve(steps: array[int], values: array[float], points: int) -> dict[int, float]:
    """Step → value, rising and thinned."""
    import numpy as np

    # Of equal steps the last one is first in the reversed order, and the one that is kept.
    known, places = np.unique(np.frombuffer(steps, np.int64)[::-1], return_index=True)
    numbers = np.frombuffer(values, np.float64)[::-1][places]
    every = -(-len(known) // points)
    if every > 1:
        begins = np.arange(0, len(known) - 1, every)
        ends = np.append(begins[1:], len(known) - 1)
        means = np.add.reduceat(numbers[:-1], begins) / (ends - begins)
        known, numbers = np.append(known[ends - 1], known[-1]), np.append(means, numbers[-1])
    return dict(zip(known.tolist(), numbers.tolist(), strict=True))


def curves(directory: Path) -> dict[str, dict[int, float]]:
    """Metric → step → value, as `history` has them. Errors: Damaged."""
    return history(directory).curves
