"""The run directory and its journal: what happened, one JSON object a line, only ever appended to."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .. import files, processes, stored
from ..errors import ConfigError, Damaged
from ..files.digests import text_digest
from . import tracked as tracked_of
from .events import is_of_training, parse

#: Names in a run directory.
CONFIG, OVERRIDES, ENVIRONMENT = "config.yaml", "overrides.yaml", "environment.json"
JOURNAL, LOG, RESULT = "journal.jsonl", "train.log", "result.json"
PER_CLASS, MISTAKES, UNREADABLE = "per_class.json", "mistakes.json", "unreadable.txt"
#: Maps of the worst mistakes, and the page that shows them.
EXPLAINED, EXPLAIN_PAGE = "explained.json", "explain.html"
CHECKPOINTS, PLOTS, RANKS = "checkpoints", "plots", "ranks"
ORIGIN, SWEEP = "resumed_from", "sweep.json"
LOCK, TRACKING_LOG = f"{RANKS}/lock", f"{RANKS}/tracking.log"
#: The tracker whose runs can be looked up and fetched again.
MLFLOW = "mlflow"

#: The checkpoint of networks that were quantized once training was over.
QUANTIZED = "quantized"
#: All that a checkpoint's folder may hold, and the folder's name.
CHECKPOINT_FILES = (
    "model.safetensors", "ema.safetensors", "optimizer.safetensors", "adapters.safetensors", "average.safetensors",
    "images.safetensors", "state.json",
)  # fmt: skip
CHECKPOINT_NAME = re.compile(rf"step-\d{{8,}}|{QUANTIZED}")
#: Names in the folder of locks and logs.
OF_RANKS = re.compile(
    r"lock|tracking\.([a-z0-9_-]+\.)?(lock|log|json)|rank\d+\.log|failed\.rank\d+\.json|stopped_early"
)

#: Events with the digest of the config of the run's network.
WITH_CONFIG = ("started", "resumed", "migrated")

#: Bytes before an offset whose digest identifies a journal.
MARKED = 256

#: Bytes of a journal that are read at once.
BLOCK = 1 << 18

#: Timings: they differ when a step is computed again.
MEASURED = {"train/images_per_s", "final/images_per_s", "final/latency_ms_p50", "final/latency_ms_p99"}


def refuse_other_files(directory: Path) -> None:
    """Refuse a folder that contains files but no run. Errors: ConfigError."""
    if not directory.is_dir() or (directory / JOURNAL).is_file():
        return
    names = sorted(path.name for path in directory.iterdir() if path.name != RANKS)
    in_ranks = sorted(path.name for path in directory.glob(f"{RANKS}/*"))
    names += [f"{RANKS}/{name}" for name in in_ranks if not OF_RANKS.fullmatch(name)]
    if names:
        few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise ConfigError(
            f"{directory} is not empty ({few}) and holds no run. Choose a folder that "
            "is new or empty: hydra.run.dir=DIR"
        )


class Journal:
    """Appends to the journal of a run directory.

    Events: `started` and `resumed` (command); `metrics` (step, epoch, values); `dataset`; `tags` (values); `note`
    (text); `checkpoint` (name, better, final: what the run ended with);
    `artifact` (path, folder); `model` (path of an export); `migrated` (config); `ended` (status, reason, exit_code).
    Every event has `time`, seconds since 1970.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL
        self._written: dict[tuple[int, str], float] = {}

    def continue_from(self, step: int) -> None:
        """From now on skip points after this step that an earlier attempt wrote with the same value."""
        self._written = {}
        # Within an attempt steps rise, so each is read from its end.
        begins = [offset for _, offset in events(self.path.parent, kinds=("started", "resumed"))]
        for begin, end in zip([0, *begins], [*begins, None], strict=True):
            attempt: dict[tuple[int, str], float] = {}
            for event in latest(self.path.parent, ("metrics",), begin, end):
                if not is_of_training(event):
                    continue
                if event["step"] < step:
                    break
                for name, value in event["values"].items():
                    attempt.setdefault((event["step"], name), value)
            self._written |= attempt

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
        """Flush the journal to the disk, so that a checkpoint is never ahead of it after a power cut."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())

    def metrics(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Add the metrics of a step, except those that an earlier attempt wrote with the same value."""
        new = {name: value for name, value in values.items() if not self._known(step, name, value)}
        if new:
            self.append("metrics", step=step, epoch=epoch, values=new)

    def _known(self, step: int, name: str, value: float) -> bool:
        written = self._written.get((step, name))
        return written is not None and (name in MEASURED or repr(written) == repr(value))

    def artifact(self, path: str, folder: str = "") -> None:
        """Record that a file or folder of the run directory belongs to the run's results."""
        self.append("artifact", path=path, folder=folder)


def events(directory: Path, offset: int = 0, kinds: Collection[str] = ()) -> Iterator[tuple[dict[str, Any], int]]:
    """(event, offset after it) of every complete line from a byte offset on, skipping lines without an event.

    A line has none if a crash tore it or another version wrote it. `kinds`: the events that are wanted, all if it
    is empty; blocks that name none of them are skipped. Errors: Damaged if the journal cannot be read.
    """
    words = _words(kinds)
    with stored.opened(directory / JOURNAL) as stream:
        if stream is None:
            return
        stream.seek(offset)
        while block := stream.read(BLOCK):
            block += stream.readline()
            if kinds and not any(word in block for word in words):
                offset += len(block)
            else:
                for line in _lines(block):
                    offset += len(line)
                    if event := _parsed(line, kinds, words):
                        yield event, offset
            if not block.endswith(b"\n"):
                return


def latest(directory: Path, kinds: Collection[str], begin: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """The events of some kinds between two byte offsets where lines begin, the last one first.

    The journal is read from its end, in blocks, and only as far as events are consumed. Errors: Damaged.
    """
    words = _words(kinds)
    with stored.opened(directory / JOURNAL) as stream:
        if stream is None:
            return
        place = stream.seek(0, os.SEEK_END) if end is None else end
        block = b""
        while place > begin:
            size = min(place - begin, BLOCK)
            place = stream.seek(place - size)
            block = stream.read(size) + block
            # The first line of a block begins in the one before it.
            first = block.find(b"\n") + 1 if place > begin else 0
            if place > begin and not first:
                continue
            if any(block.find(word, first) >= 0 for word in words):
                for line in reversed(_lines(block[first:])):
                    if event := _parsed(line, kinds, words):
                        yield event
            block = block[:first]


def _words(kinds: Collection[str]) -> list[bytes]:
    return [f'"{kind}"'.encode() for kind in kinds]


def _lines(block: bytes) -> list[bytes]:
    """The complete lines, which end with a newline and nothing else; a torn one is skipped."""
    return [line + b"\n" for line in block.split(b"\n")[:-1]]


def _parsed(line: bytes, kinds: Collection[str], words: list[bytes]) -> dict[str, Any] | None:
    """The event of a line if it is of one of these kinds, or of any if there are none."""
    if not kinds:
        return parse(line)
    event = parse(line) if any(word in line for word in words) else None
    return event if event and event["event"] in kinds else None


def mark(directory: Path, offset: int) -> str:
    """A digest of the bytes before an offset: if it differs, the journal is not the one that was read up to there."""
    with contextlib.suppress(FileNotFoundError), (directory / JOURNAL).open("rb") as stream:
        stream.seek(max(0, offset - MARKED))
        return text_digest(stream.read(min(offset, MARKED)).decode(errors="replace"))
    return ""


def tracked_file(tracker: str) -> str:
    """The file of a run directory that records what was delivered to a tracker."""
    return f"{MLFLOW}.json" if tracker == MLFLOW else f"{RANKS}/tracking.{tracker}.json"


def tracking_lock(tracker: str) -> str:
    """The file of a run directory that the process delivering to a tracker locks."""
    return f"{RANKS}/tracking.lock" if tracker == MLFLOW else f"{RANKS}/tracking.{tracker}.lock"


def tracked(directory: Path, tracker: str = MLFLOW) -> tracked_of.Tracked:
    """The state of delivery to a tracker: `uri`, `offset` in the journal, `ended`, MLflow's `run_id`; empty before.

    Errors: Damaged.
    """
    return tracked_of.read(directory / tracked_file(tracker))
