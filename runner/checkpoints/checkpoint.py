"""Writing checkpoints: weights and optimizer state as safetensors, the rest of a run's state as JSON; never a pickle.

A checkpoint is a folder `checkpoints/step-00001234`, written under another name and renamed when it is complete; `last`
and `best` are files that hold the name of one. `state.json` holds the digests of everything in the folder, by which
`reading` recognises a damaged one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from safetensors.paddle import save as to_bytes

from .. import files
from ..data import seen
from ..errors import CheckpointError, Diverged
from ..files.digests import content_digest
from ..models import Networks
from ..runs.journal import CHECKPOINTS, QUANTIZED
from ..training import seeding
from ..training.optimizers import Optimization
from ..training.state import Training
from .reading import Saved, pointed, pointed_or_none, verify
from .state import (
    ADAPTERS,
    AVERAGE,
    EMA,
    FILES,
    IMAGES,
    MODEL,
    OPTIMIZER,
    STATE,
    About,
    State,
    read,
    write,
)


def save(
    directory: Path,
    training: Training,
    better: bool,
    about: About,
    seconds: float,
    trained_on: seen.Keys | None = None,
) -> Path:
    """Write the current state, point `last` (and `best`, if it is the best so far) to it, and drop older checkpoints.

    seconds: training time so far; `trained_on`: the images that the weights have seen, if that is known. Errors:
    Diverged for a weight that is not finite, OSError if the disk is full; neither leaves a partial checkpoint or loses
    an older one.
    """
    progress = training.progress
    folder = directory / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    weights = training.networks.state_dict()
    adapters = training.mode.adapters.parameters
    _refuse_non_finite(weights | adapters, progress.step)
    target = folder / f"step-{progress.step:08d}"
    parts = {MODEL: weights, OPTIMIZER: optimizer_state(training.optimizations)}
    if training.ema:
        parts[EMA] = training.ema.averages
    if training.average:
        parts[AVERAGE] = training.average.averages
    if adapters:
        parts[ADAPTERS] = adapters
    _commit(target, parts, _state(training, about, seconds), trained_on)
    files.write_text(folder / "last", target.name)
    if better:
        files.write_text(folder / "best", target.name)
    _drop_older(folder, training.checkpoints.keep)
    return target


def save_final(directory: Path, networks: Networks) -> Path:
    """Write networks that were changed after the best weights were loaded; `final` points to them.

    Errors: OSError if the disk is full, which leaves no partial checkpoint.
    """
    folder = directory / CHECKPOINTS
    saved = verify(folder / (pointed(folder, "best") or pointed(folder, "last") or ""))
    _commit(folder / QUANTIZED, {MODEL: networks.state_dict()}, saved.state, saved.trained_on())
    files.write_text(folder / "final", QUANTIZED)
    return folder / QUANTIZED


def _commit(
    target: Path, parts: dict[str, dict[str, paddle.Tensor]], state: State, trained_on: seen.Keys | None
) -> None:
    """Write a checkpoint atomically: a temporary folder that is renamed when it is complete."""
    with files.partial_folder(target) as partial:
        contents = {name: _encoded(tensors) for name, tensors in parts.items()}
        if trained_on is not None:
            contents[IMAGES] = trained_on.to_bytes()
        digests = {name: _write(partial / name, content) for name, content in contents.items()}
        write(partial / STATE, replace(state, digests=digests))
        files.sync_folder(partial)
        # One of the same name is `….old` until then, where `newest` finds it.
        files.put_in_place(partial, target, STATE, FILES)


def _state(training: Training, about: About, seconds: float) -> State:
    scaler = training.precision.scaler
    return State(
        networks=list(training.networks.trained),
        steps=training.steps,
        seconds=seconds,
        precomputing_s=training.precomputing_s,
        progress=training.progress,
        schedules=[optimization.schedule.last_epoch for optimization in training.optimizations],
        scaler={} if scaler is None else {name: _plain(value) for name, value in scaler.state_dict().items()},
        random=seeding.state(),
        paddle=paddle.__version__,
        **vars(about),
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def optimizer_state(optimizations: list[Optimization]) -> dict[str, paddle.Tensor]:
    """Every accumulator of every optimizer as `<number>.<structured parameter name>/<accumulator>`.

    Paddle's own names count the parameters of a process and mean nothing in another one. State that belongs to no
    parameter is `<number>./<name>`.
    """
    tensors: dict[str, paddle.Tensor] = {}
    for number, optimization in enumerate(optimizations):
        names = {parameter.name: name for name, parameter in optimization.parameters.items()}
        entries = optimization.optimizer.state_dict()
        masters = entries.pop("master_weights", {})
        for key, value in entries.items():
            if isinstance(value, paddle.Tensor):
                owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default="")
                accumulator = key.removeprefix(f"{owner}_") if owner else key
                tensors[f"{number}.{names.get(owner, '')}/{accumulator}"] = value
        tensors |= {f"{number}.{names[key]}/master": value for key, value in masters.items()}
    return tensors


def _encoded(tensors: dict[str, paddle.Tensor]) -> bytes:
    """The content of a safetensors file."""
    # NumPy has no bfloat16; float32 holds half precision exactly.
    halves = (paddle.float16, paddle.bfloat16)
    wide = {name: value.astype("float32") if value.dtype in halves else value for name, value in tensors.items()}
    content: bytes = to_bytes({name: value.contiguous() for name, value in wide.items()})
    return content


def _write(path: Path, content: bytes) -> str:
    """Write a file to the disk; returns its digest."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return content_digest([content])


def _refuse_non_finite(weights: dict[str, paddle.Tensor], step: int) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(paddle.isfinite(value.astype("float32")).all()):
            raise Diverged(
                f"The weight '{name}' is not finite after step {step}. Lower optimizer.lr or clip gradients "
                "(optimizer.clip_norm=1). The checkpoint before it was kept."
            )


def _drop_older(folder: Path, keep: int) -> None:
    """Keep the last, the best, `keep` older ones, and the one that was best when each of those was written."""
    spared = {pointed(folder, "last"), pointed(folder, "best")}
    own = [path for path in folder.glob("step-*") if (path / STATE).is_file()]
    older = sorted((path for path in own if path.name not in spared), reverse=True)
    spared |= {path.name for path in older[:keep]}
    spared |= {f"step-{_best_step(folder / name):08d}" for name in spared if name}
    for path in older:
        if path.name not in spared:
            files.remove_named(path, FILES)


def _best_step(checkpoint: Path) -> int:
    try:
        return read(checkpoint).progress.best_step
    except CheckpointError:
        return 0


def rewind(directory: Path, saved: Saved) -> None:
    """Remove what a run wrote after a checkpoint, complete or not; `best` is reset to what it was then."""
    folder = directory / CHECKPOINTS
    best = f"step-{saved.progress.best_step:08d}"
    if (folder / best).is_dir():
        files.write_text(folder / "best", best)
    files.write_text(folder / "last", saved.folder.name)
    for path in folder.glob("step-*"):
        if path.name > saved.folder.name:
            files.remove_named(path, FILES)
    files.remove_partials(folder)
    # The final weights are written again when the run ends.
    files.remove_file(folder / "final")
    files.remove_named(folder / QUANTIZED, FILES)
    if not (folder / (pointed_or_none(folder, "best") or "missing")).is_dir():
        files.remove_file(folder / "best")


def adopt(origin: Path, saved: Saved, directory: Path) -> Saved:
    """Copy a checkpoint of another run, and the one that was its best then, into a run's directory."""
    folder = directory / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    for name in {saved.folder.name, f"step-{saved.progress.best_step:08d}"}:
        if (origin / CHECKPOINTS / name).is_dir():
            with files.partial_folder(folder / name) as partial:
                for part in FILES:
                    if (source := files.inside(origin, f"{CHECKPOINTS}/{name}/{part}")).is_file():
                        (partial / part).write_bytes(source.read_bytes())
                files.sync_folder(partial)
                files.put_in_place(partial, folder / name, STATE, FILES)
    adopted = Saved(folder / saved.folder.name, saved.state)
    rewind(directory, adopted)
    return adopted
