"""A run's state on disk: weights and optimizer state as safetensors, the rest as JSON; never a pickle.

A checkpoint is a folder `checkpoints/step-00001234`, written beside and renamed; `last` and `best` are files that hold
the name of one.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.paddle import save_file

from . import files, seeding, unpickling
from .errors import CheckpointError, Diverged
from .journal import CHECKPOINTS
from .loop import Training
from .optimizers import Optimization

MODEL, EMA, OPTIMIZER, STATE = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"
#: Raised when the layout changes in a way that older versions cannot read.
FORMAT = 1


def save(directory: Path, training: Training, better: bool, keep: int) -> Path:
    """Write the state of now, point `last` (and `best`, if it is the best so far) to it, and drop older ones.

    `keep` checkpoints stay besides the one `best` points to. Errors: Diverged where a weight is not finite; nothing is
    written then.
    """
    progress = training.progress
    folder = directory / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    weights = training.networks.state_dict()
    _refuse_non_finite(weights, progress.step)
    target = folder / f"step-{progress.step:08d}"
    partial = folder / f".{target.name}.{os.getpid()}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _write(partial / MODEL, weights)
    if training.ema:
        _write(partial / EMA, training.ema.averages)
    _write(partial / OPTIMIZER, optimizer_state(training.optimizations))
    files.write_json(partial / STATE, state(training))
    files.sync_folder(partial)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    files.sync_folder(folder)
    files.write_text(folder / "last", target.name)
    if better:
        files.write_text(folder / "best", target.name)
    _drop_older(folder, keep)
    return target


def state(training: Training) -> dict[str, Any]:
    """What a checkpoint says besides tensors."""
    scaler = training.precision.scaler
    return {
        "format": FORMAT,
        "progress": asdict(training.progress),
        "schedules": [optimization.schedule.last_epoch for optimization in training.optimizations],
        "scaler": None if scaler is None else {key: float(value) for key, value in scaler.state_dict().items()},
        "random": seeding.state(),
        "networks": list(training.networks.trained),
        "paddle": paddle.__version__,
    }


def optimizer_state(optimizations: list[Optimization]) -> dict[str, paddle.Tensor]:
    """Every accumulator of every optimizer as `<number>.<structured parameter name>/<accumulator>`.

    Paddle's own names count the parameters of a process and mean nothing in another one.
    """
    tensors: dict[str, paddle.Tensor] = {}
    for number, optimization in enumerate(optimizations):
        names = {parameter.name: name for name, parameter in optimization.parameters.items()}
        entries = optimization.optimizer.state_dict()
        masters = entries.pop("master_weights", {})
        for key, value in entries.items():
            if isinstance(value, paddle.Tensor):
                owner = max((name for name in names if key.startswith(f"{name}_")), key=len)
                tensors[f"{number}.{names[owner]}/{key.removeprefix(f'{owner}_')}"] = value
        tensors |= {f"{number}.{names[key]}/master": value for key, value in masters.items()}
    return tensors


def _write(path: Path, tensors: dict[str, paddle.Tensor]) -> None:
    # Half precision is written as float32, which NumPy can read and which is exact.
    halves = (paddle.float16, paddle.bfloat16)
    wide = {name: value.astype("float32") if value.dtype in halves else value for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in wide.items()}, str(path))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _refuse_non_finite(weights: dict[str, paddle.Tensor], step: int) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(paddle.isfinite(value.astype("float32")).all()):
            raise Diverged(
                f"The weight '{name}' is not finite after step {step}. Lower optimizer.lr or clip gradients "
                "(optimizer.clip_norm=1). The checkpoint before it was kept."
            )


def _drop_older(folder: Path, keep: int) -> None:
    spared = {pointed(folder, "last"), pointed(folder, "best")}
    older = sorted(path for path in folder.glob("step-*") if path.name not in spared)
    for path in older[: max(0, len(older) - keep + 1)]:
        shutil.rmtree(path)


def pointed(folder: Path, pointer: str) -> str | None:
    """Name of the checkpoint that `last` or `best` points to."""
    path = folder / pointer
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


@dataclass
class Weights:
    """Named arrays from somewhere."""

    origin: str
    arrays: dict[str, np.ndarray]


def read_weights(source: str, pointer: str = "best") -> Weights:
    """Weights from a run directory, a checkpoint folder, a `.safetensors` or a `.pdparams` file.

    Of a run the checkpoint that `pointer` names is taken, averaged weights before plain ones. Errors: CheckpointError
    naming what is missing or damaged.
    """
    path = Path(source)
    if (path / CHECKPOINTS).is_dir():
        name = pointed(path / CHECKPOINTS, pointer) or pointed(path / CHECKPOINTS, "last")
        if name is None:
            raise CheckpointError(f"{path} has no checkpoint yet. Give a run that has, or a file of weights.")
        path = path / CHECKPOINTS / name
    if path.is_dir():
        path = path / (EMA if (path / EMA).is_file() else MODEL)
    if not path.is_file():
        raise CheckpointError(
            f"{source}: there are no weights. Give a run directory, a .safetensors file or a .pdparams file."
        )
    try:
        if path.suffix == ".safetensors":
            return Weights(str(path), load_file(path))
        with path.open("rb") as stream:
            return Weights(str(path), _arrays(unpickling.load(stream)))
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}.") from error


def _arrays(content: Any) -> dict[str, np.ndarray]:
    """The arrays of a state dict as Paddle pickles it: arrays, or (name, array) for what was a parameter."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict of weights")
    arrays = {}
    for name, value in content.items():
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if isinstance(value, np.ndarray):
            arrays[name] = value
    if not arrays:
        raise ValueError("it holds no arrays")
    return arrays


def initialize(
    network: nn.Layer,
    names: tuple[str, ...],
    weights: Weights,
    strict: bool,
    remedy: str = "Choose the same model and number of classes, or take what fits: checkpoint.strict=false",
) -> str:
    """Give the networks the weights that fit in name and shape, and say in one line what matched.

    `names` are the networks in it; weights without such a prefix, or of `student` alone, are given to each of them.
    Errors: CheckpointError listing what is missing, not used or of another shape, when `strict`.
    """
    own = network.state_dict()
    offered = _addressed(weights.arrays, names)
    fitting = {name: value for name, value in offered.items() if name in own and list(value.shape) == own[name].shape}
    missing = [name for name in own if name not in offered]
    unused = [name for name in offered if name not in own]
    reshaped = [name for name in offered if name in own and name not in fitting]
    if not fitting or (strict and (missing or unused or reshaped)):
        raise CheckpointError(
            f"{weights.origin} does not fit the network: {len(fitting)} of {len(own)} tensors match"
            + _listed("missing", missing)
            + _listed("not used", unused)
            + _listed("of another shape", [f"{n} {list(offered[n].shape)}≠{list(own[n].shape)}" for n in reshaped])
            + f"\n{remedy}"
        )
    for name, value in fitting.items():
        own[name].set_value(paddle.to_tensor(value).astype(own[name].dtype))
    return f"{len(fitting)} of {len(own)} tensors from {weights.origin}" + (
        f" ({len(missing)} missing, {len(reshaped)} of another shape, {len(unused)} not used)" if not strict else ""
    )


def _addressed(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays under the names of the networks they are meant for."""
    prefixes = {name.partition(".")[0] for name in arrays}
    if prefixes >= set(names):
        return {name: value for name, value in arrays.items() if name.partition(".")[0] in names}
    single = {
        name.removeprefix("student."): value for name, value in arrays.items() if not name.startswith("student1.")
    }
    return {f"{network}.{name}": value for network in names for name, value in single.items()}


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"\n  {len(names)} {what}: {', '.join(names[:3])}{more}"
