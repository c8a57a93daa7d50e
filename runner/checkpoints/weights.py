"""Weights from anywhere: of a run, of a `.safetensors` file, of a foreign `.pdparams` file."""

from __future__ import annotations

import contextlib
import json
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from .. import compression, files, runs, stored
from .. import config as cfg
from ..data import unpickling
from ..errors import CheckpointError, Damaged
from ..models import Networks
from ..runs.journal import CHECKPOINT_NAME, CHECKPOINTS, CONFIG
from . import checkpoint, state
from .state import ANOTHER, EMA, MODEL, STATE

#: Under which name the metadata of an exported file say what they do: one, since several have no order.
ABOUT = "runner.about"
#: What files of earlier versions say of a network that lost channels.
PRUNED = "runner.pruned"
#: The key under which Paddle says how it cut weights above a gigabyte, with protocols 2 and 3.
_CUT = "UnpackBigParamInfor@@"


@dataclass
class Weights:
    """Named arrays from somewhere."""

    origin: str
    arrays: dict[str, np.ndarray]
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what pruning did to it; empty where nothing was pruned."""
    classes: list[str] | None = None
    """Names of the classes in the order of the logits; None where it is not known, as of a file."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network → of many labels the probability of each class from which on it is predicted."""

    def without_quantization(self) -> Weights:
        """The weights themselves, without ranges and clips."""
        plain = {name: array for name, array in self.arrays.items() if not compression.slim.is_quantization(name)}
        return replace(self, arrays=plain)


def read(source: str | Path, pointer: str = "best") -> Weights:
    """Weights from a run directory, a checkpoint folder, a `.safetensors` or a `.pdparams` file.

    Of a run the checkpoint that `pointer` names is taken (`final`: what the run ended with, of `ptq` the quantized
    network; `best`; `last`), averaged weights before plain ones. Errors: CheckpointError
    naming what is missing or damaged.
    """
    path = Path(source)
    if path.is_file() and path.name in ("final", "best", "last"):
        path = path.with_name(checkpoint.pointed(path.parent, path.name) or "")
    if path.is_dir():
        files.refuse_links(path)
    if (path / CHECKPOINTS).is_dir():
        path = path / CHECKPOINTS / _chosen(path, pointer)
    if (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no checkpoint: that run ended before its first one. Give another.")
    if CHECKPOINT_NAME.fullmatch(path.name) or (path.is_dir() and (path / STATE).exists()):
        return _of_checkpoint(path)
    if not path.is_file():
        raise CheckpointError(
            f"{source}: no weights were found. Give a run (its directory or its MLflow run id), a .safetensors file or "
            "a .pdparams file."
        )
    if path.suffix not in (".safetensors", ".pdparams"):
        raise CheckpointError(f"{path} is not a file of weights. Give a .safetensors or a .pdparams file, or a run.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as opened:
                pruned, classes = _about(opened.metadata() or {})
            if path.name in (MODEL, EMA) and (path.parent / STATE).is_file():
                # Of another version its weights can be taken all the same.
                with contextlib.suppress(CheckpointError):
                    classes = state.read(path.parent).classes
            return Weights(str(path), load_file(path), {"student": {}} if pruned else {}, classes)
        with path.open("rb") as stream:
            return Weights(str(path), _arrays(unpickling.load(stream)))
    except (SafetensorError, pickle.UnpicklingError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}.") from error


def metadata(pruned: bool, classes: list[str]) -> dict[str, str]:
    """What an exported file says besides tensors; `read` understands it."""
    return {ABOUT: json.dumps({"pruned": pruned, "classes": classes})}


def _about(written: dict[str, str]) -> tuple[bool, list[str] | None]:
    """(pruned, names of the classes). Errors: ValueError, TypeError for what no export wrote."""
    if ABOUT not in written:
        return written.get(PRUNED) == str(True), None
    values = json.loads(written[ABOUT])
    stored.check(values, dict[str, Any], ABOUT)
    pruned, classes = values.get("pruned"), values.get("classes")
    stored.check(pruned, bool, "pruned")
    stored.check(classes, list[str], "classes")
    return pruned, classes


def _of_checkpoint(path: Path) -> Weights:
    saved = checkpoint.verify(path)
    try:
        averages = load_file(path / EMA) if EMA in saved.state.digests else {}
        arrays, state = load_file(path / MODEL) | averages, saved.state
        return Weights(str(path), arrays, state.plan, state.classes, state.progress.thresholds)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # Its digests are right: no run wrote it.
        raise Damaged(f"{path} is damaged: {error}. {ANOTHER}") from error


def _chosen(run: Path, pointer: str) -> str:
    """The checkpoint that a pointer of a run names, or the next of `final`, `best` and `last` that the run has.

    Errors: CheckpointError where it has none; Damaged where a complete run has lost one of them, since the next one
    would be another network.
    """
    order = ("final", "best", "last")
    noted = runs.checkpoints(run)
    for number, name in enumerate(order[order.index(pointer) :], start=order.index(pointer) + 1):
        checkpoint_name, place = checkpoint.pointed(run / CHECKPOINTS, name), run / CHECKPOINTS / name
        if name in noted and checkpoint_name != noted[name]:
            others = f", or take another network on purpose: --weights {order[number]}" if number < len(order) else ""
            what = "is missing" if checkpoint_name is None else f"names {checkpoint_name}"
            raise Damaged(f"{place} {what}; the run wrote {noted[name]} in it. Bring it back{others}.")
        if checkpoint_name is not None:
            return checkpoint_name
    raise CheckpointError(f"{run} has no checkpoint yet. Give a run that has, or a file of weights.")


def _arrays(content: Any) -> dict[str, np.ndarray]:
    """The arrays of a state dict as Paddle pickles it: arrays, or (name, array) for what was a parameter."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict of weights")
    if _CUT in content:
        raise ValueError("it holds weights cut into parts. Save it again with paddle.save(…, protocol=4)")
    arrays = {}
    for name, value in content.items():
        # Python 2 wrote bytes.
        name = name if isinstance(name, str) else name.decode("latin-1")
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if isinstance(value, np.ndarray):
            arrays[name] = value
    if not arrays:
        raise ValueError("it holds no arrays")
    return arrays


def restructure(networks: Networks, names: tuple[str, ...], weights: Weights, settings: cfg.Compression) -> None:
    """Give plain networks the structure that these weights are of: channels after pruning, simulated integers.

    Errors: CheckpointError where they are of other networks.
    """
    offered = _addressed(weights.arrays, names)
    for name in names:
        shapes = {
            key.removeprefix(f"{name}."): array.shape for key, array in offered.items() if key.startswith(f"{name}.")
        }
        compression.rebuild(networks[name], settings, shapes, bool(weights.plan), weights.origin)


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
