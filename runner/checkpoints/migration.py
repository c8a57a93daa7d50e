"""Migrating run directories of earlier versions to this one, without losing anything.

The original files are kept in the run's folder `before-migration`; each file is replaced atomically. A migration that
was interrupted at any point can be repeated: what was done is not done again.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files, stored, terminal
from ..config import Config, store
from ..errors import CheckpointError, Damaged
from ..files.digests import file_digest, text_digest
from ..processes import locked
from ..runs import result as results
from ..runs.events import parse
from ..runs.journal import (
    CHECKPOINT_FILES,
    CHECKPOINTS,
    CONFIG,
    JOURNAL,
    LOCK,
    MLFLOW,
    PER_CLASS,
    RANKS,
    RESULT,
    WITH_CONFIG,
    Journal,
    latest,
    tracked_file,
)

#: Folder of a run that keeps the original files.
KEPT = "before-migration"
#: The checkpoint layout of version 0.1.0.
FIRST_LAYOUT = 1
*TENSORS, STATE = CHECKPOINT_FILES


@dataclass(frozen=True)
class Change:
    """A change to one file of a run."""

    file: str
    what: str
    do: Callable[[], None] | None = None
    """None if the file cannot be migrated."""


def migrate(directory: Path, dry: bool) -> tuple[list[str], list[str]]:
    """Migrate a run directory to this version, or with `dry` only list what would be done.

    Returns a line for each change, and for each file that cannot be migrated. Errors: CheckpointError for a run that is
    being trained, Damaged, ConfigError for a config that cannot be read, ForeignPath for links.
    """
    files.refuse_links(directory)
    if dry:
        return _as_lines(changes(directory))
    (directory / RANKS).mkdir(exist_ok=True)
    with locked(directory / LOCK, patience_s=0) as lock:
        if lock is None:
            raise CheckpointError(f"{directory} is being trained. Wait until it has ended.")
        done = []
        for change in changes(directory):
            if change.do:
                if change.file != JOURNAL:
                    # The journal is appended to, not replaced. Next to a journal the copies would look like a run
                    # themselves.
                    keep(directory, change.file)
                change.do()
            done.append(change)
        return _as_lines(done)


def _as_lines(changes: Iterable[Change]) -> tuple[list[str], list[str]]:
    lines: tuple[list[str], list[str]] = ([], [])
    for change in changes:
        lines[change.do is None].append(f"{change.file}: {change.what}")
    return lines


def changes(directory: Path) -> Iterator[Change]:
    """The changes, each made before the next is yielded: those of checkpoints depend on that of the journal."""
    yield from _config(directory)
    yield from _tracked(directory)
    yield from _journal(directory)
    yield from _checkpoints(directory)


def keep(directory: Path, name: str) -> None:
    """Keep a copy of the original file, unless there is one already."""
    target = directory / KEPT / name
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.partial_file(target) as partial:
        shutil.copyfile(directory / name, partial)


def _config(directory: Path) -> Iterator[Change]:
    """Rename and move keys, and add new ones with the value that reproduces the run."""
    path = directory / CONFIG
    if not path.is_file():
        return
    before = stored.read_yaml(path, dict[str, Any])
    config = store.read(path)
    after = store.to_plain(config)
    if before == after:
        return
    old, new = (store.keys_in(part) for part in (before, after))
    gone = sorted(old - new)
    added = len(new - old)
    words = [f"{terminal.counted(added, 'key')} added", *([f"{', '.join(gone[:3])} replaced"] if gone else [])]
    yield Change(CONFIG, "; ".join(words), functools.partial(_write_config, directory, config))


def _write_config(directory: Path, config: Config) -> None:
    """Write a config in the present form; if it was the run's original config, it still counts as that."""
    path = directory / CONFIG
    begun = next(latest(directory, WITH_CONFIG), {})
    if begun.get("config") == text_digest(stored.read_text(path) or ""):
        # Before the file, so that an interrupted migration only repeats this.
        Journal(directory).append("migrated", config=text_digest(store.to_yaml(config)))
    store.write(config, path)


def _tracked(directory: Path) -> Iterator[Change]:
    """Move 0.1.0's MLflow file to before-migration: it lacks the key that identifies the run in a store."""
    name = tracked_file(MLFLOW)
    record = stored.read_json(directory / name, dict[str, Any]) or {}
    if "run_id" in record and "key" not in record and "rebuilt" not in record:
        what = "moved to before-migration: it cannot identify the run in MLflow. `runner sync` creates a new one there"
        yield Change(name, what, functools.partial(files.remove_file, directory / name))


def _journal(directory: Path) -> Iterator[Change]:
    """Append the end of a run again with an exit code, which 0.1.0 did not write."""
    last: dict[str, Any] | None = None
    with stored.opened(directory / JOURNAL) as stream:
        for line in stream or ():
            if parse(line) is None:
                last = _old_end(line) or last
            elif b'"ended"' in line or b'"resumed"' in line:
                last = None
    if last is not None:
        end = {"time": last["time"], "status": last["status"], "reason": str(last.get("reason", ""))}
        code = 0 if end["status"] == "FINISHED" else 1
        yield Change(
            JOURNAL, f"repeats that the run ended, {end['status']}",
            lambda: Journal(directory).append("ended", **end, exit_code=code),
        )  # fmt: skip


def _old_end(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") != "ended" or "exit_code" in event:
        return None
    is_whole = event.get("status") in ("FINISHED", "FAILED", "KILLED") and isinstance(event.get("time"), (int, float))
    return event if is_whole else None


def _checkpoints(directory: Path) -> Iterator[Change]:
    """Give checkpoints of the first layout the digests and names of the present one. Their tensors are unchanged."""
    for path in sorted((directory / CHECKPOINTS).glob(f"step-*/{STATE}")):
        values = stored.read_json(path, dict[str, Any])
        if values is None or values.get("format") != FIRST_LAYOUT:
            continue
        name = str(path.relative_to(directory))
        if classes := results.per_class(directory / PER_CLASS).get("classes"):
            convert = functools.partial(_convert, path, values, classes)
            yield Change(name, f"layout {FIRST_LAYOUT} is written in the present layout, with digests", convert)
        else:
            # Class names are known only from the result of a finished run.
            weights = terminal.pasted("checkpoint.init_from", path.with_name(CHECKPOINT_FILES[0]))
            yield Change(name, f"unchanged: the names of its classes are unknown. Its weights can be used: {weights}")


def _convert(path: Path, values: dict[str, Any], classes: list[str]) -> None:
    """Write the state of a checkpoint in the present layout."""
    from .state import State, write

    try:
        progress = stored.typed(values["progress"], _progress())
        result = results.read(path.parents[2] / RESULT)
        state = State(
            networks=list(values["networks"]),
            steps=result.progress.step if result and result.progress else progress.step,
            seconds=result.seconds if result else 0.0,
            data="",
            classes=classes,
            progress=progress,
            schedules=list(values["schedules"]),
            scaler=values.get("scaler") or {},
            random=values["random"],
            digests={name: file_digest(place) for name in TENSORS if (place := path.with_name(name)).is_file()},
            paddle=str(values.get("paddle", "")),
            runner="0.1.0",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error!r}. Use another checkpoint, or train again.") from error
    write(path, state)


def _progress() -> Any:
    from ..training.state import Progress

    return Progress
