"""`state.json`: everything in a checkpoint but tensors. Only this module reads and writes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__, files, stored, terminal
from ..errors import CheckpointError, Damaged
from ..files.digests import content_digest
from ..runs.journal import CHECKPOINT_FILES
from ..training.state import Progress

#: All files that a checkpoint's folder may contain.
FILES = MODEL, EMA, OPTIMIZER, ADAPTERS, AVERAGE, IMAGES, STATE = CHECKPOINT_FILES
#: Incremented when the layout changes in a way that older versions cannot read.
FORMAT = 2
#: The remedy for a damaged one.
ANOTHER = "Use another checkpoint, or train again."


class OtherLayout(CheckpointError):
    """A checkpoint of a version with another layout."""


@dataclass(frozen=True)
class About:
    """What stays the same in all checkpoints of a run."""

    data: str
    """Digest of the images and labels."""
    classes: list[str]
    """Names of the classes, in the order of the logits."""
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what was pruned from it."""
    config: str = ""
    """Digest of the config."""
    splits: dict[str, str] = field(default_factory=dict)
    """Split → digest of its names, sizes and classes; empty in checkpoints of earlier versions."""
    teachers: dict[str, str] = field(default_factory=dict)
    """Teacher → digest of its weights, classes and preprocessing; empty in checkpoints of earlier versions."""


@dataclass
class State:
    """Everything in a checkpoint but tensors."""

    networks: list[str]
    """Names of the trained networks."""
    steps: int
    """Steps of the whole run."""
    seconds: float
    """Seconds trained so far, over all attempts."""
    data: str
    classes: list[str]
    progress: Progress
    schedules: list[int]
    """Steps that each optimizer's learning-rate schedule has taken."""
    scaler: dict[str, Any]
    """State of the gradient scaler; empty without one."""
    random: dict[str, Any]
    """State of every generator: `seeding.state`."""
    precomputing_s: float = 0.0
    """Seconds in which teachers' logits were computed before training, over all attempts."""
    digests: dict[str, str] = field(default_factory=dict)
    """File in the same folder → BLAKE2b of its bytes, 128 bits in hexadecimal digits."""
    plan: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    splits: dict[str, str] = field(default_factory=dict)
    teachers: dict[str, str] = field(default_factory=dict)
    paddle: str = ""
    runner: str = __version__
    format: int = FORMAT


def write(path: Path, state: State) -> None:
    """Write a state, including a digest of itself. Errors: OSError."""
    values = asdict(state)
    files.write_json(path, values | {"digest": digest(values)})


def read(folder: Path) -> State:
    """The state of a checkpoint's folder.

    Errors: Damaged if it was altered, OtherLayout if another version wrote it.
    """
    values = stored.read_json(folder / STATE, dict[str, Any], ANOTHER)
    if values is None:
        raise Damaged(f"{folder} is damaged: {STATE} is missing. {ANOTHER}")
    try:
        stored.check(values.get("format"), int, "format")
        _refuse_other_layout(folder, values)
        if values.pop("digest", None) != digest(values):
            raise ValueError(f"{STATE} was changed")
        state: State = stored.typed(values, State)
        if MODEL not in state.digests or not state.digests.keys() <= set(FILES):
            raise ValueError(f"{STATE} names files that no checkpoint has")
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{folder} is damaged: {error}. {ANOTHER}") from error
    return state


def digest(values: dict[str, Any]) -> str:
    """A digest of all values of a state."""
    return content_digest([json.dumps(files.spelt(values), sort_keys=True).encode()])


def _refuse_other_layout(folder: Path, values: dict[str, Any]) -> None:
    if values["format"] > FORMAT:
        raise OtherLayout(
            f"{folder} was written by a newer version of runner ({values.get('runner', 'unknown')}, layout "
            f"{values['format']}; this is {__version__}, layout {FORMAT}). Update runner."
        )
    if values["format"] < FORMAT:
        raise OtherLayout(
            f"{folder} was written by an older version of runner. Only its weights can be used: "
            f"{terminal.pasted('checkpoint.init_from', folder / MODEL)}"
        )
