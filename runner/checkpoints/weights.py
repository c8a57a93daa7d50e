"""Weights from anywhere: a run, a `.safetensors` file, or a file of Paddle's or PyTorch's."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import re
from collections.abc import Collection, Mapping
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
from ..data import seen, unpickling
from ..errors import CheckpointError, Damaged
from ..models import Networks
from ..models import names as names_of
from ..models.names import Names
from ..runs.journal import CHECKPOINT_NAME, CHECKPOINTS, CONFIG
from . import onnx_file, reading, safetensors_file, state, state_dict, torch_file
from .preprocessing import Preprocessing
from .state import ANOTHER, EMA, MODEL, STATE

#: The one metadata key of exported files: several would have no defined order.
ABOUT = "runner.about"
#: Names that networks of runs have.
NETWORK = re.compile(r"student\d*")
#: The metadata of a pruned network in files of earlier versions.
PRUNED = "runner.pruned"
#: File name endings that can be read.
SUFFIXES = (".safetensors", ".pdparams", ".onnx", *torch_file.SUFFIXES)
#: Least fraction of a network's values that must fit: with less it would not be the network that was trained.
LEAST = 0.5


@dataclass
class Weights:
    """Named arrays from somewhere."""

    origin: str
    arrays: dict[str, np.ndarray]
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what was pruned from it; empty if nothing was pruned."""
    classes: list[str] | None = None
    """Names of the classes in the order of the logits; None if unknown, as for most files."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network → multi-label: the probability of each class from which it is predicted."""
    by_torch: bool | None = False
    """Whether weights of linear layers are [outputs, inputs], as in PyTorch; None if the file does not tell."""
    is_foreign: bool = False
    """Whether no run wrote the file, so that names may be those of another framework."""
    trained_on: seen.Keys | None = None
    """The images that they were trained on; None if unknown, as for most files."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """How those images were preprocessed; empty if unknown, as for most files."""

    def without_quantization(self) -> Weights:
        """The weights alone, without quantization ranges and clips."""
        plain = {name: array for name, array in self.arrays.items() if not compression.slim.is_quantization(name)}
        return replace(self, arrays=plain)


@dataclass
class Loaded:
    """What weights gave to a network."""

    line: str
    """How much of it, for the user."""
    random: set[str]
    """Parameters and statistics that keep their initial values."""


def read(source: str | Path, pointer: str = "best") -> Weights:
    """Weights from a run directory, a checkpoint folder, or a `.safetensors`, `.pdparams`, `.onnx` or PyTorch file.

    From a run the checkpoint that `pointer` names is taken (`final`: what the run ended with, for `ptq` the quantized
    network; `best`; `last`), averaged weights before plain ones. Errors: CheckpointError naming what is missing or
    damaged.
    """
    path = Path(source)
    if path.is_file() and path.name in ("final", "best", "last"):
        path = path.with_name(reading.pointed(path.parent, path.name) or "")
    if path.is_dir():
        files.refuse_links(path)
    if (path / CHECKPOINTS).is_dir():
        path = path / CHECKPOINTS / _chosen(path, pointer)
    if (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no checkpoint: that run ended before its first one. Give another.")
    if CHECKPOINT_NAME.fullmatch(path.name) or (path.is_dir() and (path / STATE).exists()):
        return _of_checkpoint(path)
    if path.is_dir() or not path.exists():
        raise runs.no_weights(source)
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path} is not a file of weights. Give one ({runs.WEIGHT_FILES}), or a run.")
    try:
        stored.open_regular(path).close()
        return _of_file(path)
    except (SafetensorError, pickle.UnpicklingError, OSError, ValueError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read as weights: {why}.") from error


def _refuse_not_finite(origin: str, arrays: dict[str, np.ndarray]) -> None:
    """Errors: CheckpointError for the first tensor with NaN, infinity, or a value too large for float32."""
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            wrong = array.size - np.count_nonzero(np.isfinite(array.astype(np.float32, copy=False)))
        if wrong:
            raise CheckpointError(
                f"{origin} cannot be used: {wrong:,} of the {array.size:,} values of its tensor {name} are "
                "NaN, infinite or too large for float32. Give weights from before its training diverged."
            )


def _of_file(path: Path) -> Weights:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        with safe_open(path, "np") as opened:
            written = opened.metadata() or {}
        pruned, classes, preprocessed = _about(written)
        is_own, trained_on = ABOUT in written or PRUNED in written, None
        if path.name in (MODEL, EMA) and (path.parent / STATE).is_file():
            # Weights of another version's checkpoint are still usable.
            is_own = True
            with contextlib.suppress(CheckpointError):
                saved = reading.Saved(path.parent, state.read(path.parent))
                classes, trained_on = saved.state.classes, saved.trained_on()
        by_torch = False if is_own else {"pt": True, "pd": False}.get(written.get("format", ""))
        plan: dict[str, Any] = {"student": {}} if pruned else {}
        arrays = safetensors_file.load(path)
        return Weights(
            str(path), arrays, plan, classes, by_torch=by_torch, is_foreign=not is_own, trained_on=trained_on,
            preprocessing=preprocessed,
        )  # fmt: skip
    if suffix == ".onnx":
        # A layer may be stored either way, Gemm or MatMul.
        return Weights(str(path), onnx_file.load(path), by_torch=None, is_foreign=True)
    if suffix == ".pdparams":
        with stored.open_regular(path) as stream:
            arrays, place = state_dict.arrays_of(unpickling.load(stream))
    else:
        arrays, place = state_dict.arrays_of(torch_file.load(path))
    by_torch = suffix != ".pdparams"
    return Weights(f"{path}{place and f' ({place})'}", arrays, by_torch=by_torch, is_foreign=True)


def metadata(pruned: bool, classes: list[str], preprocessed: Preprocessing) -> dict[str, str]:
    """The metadata of an exported file, which `read` understands."""
    return {ABOUT: json.dumps({"pruned": pruned, "classes": classes, "preprocessing": preprocessed})}


def _about(written: dict[str, str]) -> tuple[bool, list[str] | None, Preprocessing]:
    """(pruned, names of the classes, preprocessing). Errors: ValueError, TypeError for what no export wrote."""
    if ABOUT not in written:
        return written.get(PRUNED) == str(True), None, {}
    values = json.loads(written[ABOUT])
    stored.check(values, dict[str, Any], ABOUT)
    pruned, classes = values.get("pruned"), values.get("classes")
    stored.check(pruned, bool, "pruned")
    stored.check(classes, list[str], "classes")
    # Files of earlier versions lack it.
    preprocessed = values.get("preprocessing", {})
    stored.check(preprocessed, Preprocessing, "preprocessing")
    return pruned, classes, preprocessed


def _of_checkpoint(path: Path) -> Weights:
    saved = reading.verify(path)
    try:
        averages = load_file(path / EMA) if EMA in saved.state.digests else {}
        arrays, state = load_file(path / MODEL) | averages, saved.state
        thresholds, trained_on = state.progress.thresholds, saved.trained_on()
        return Weights(str(path), arrays, state.plan, state.classes, thresholds, trained_on=trained_on)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # The digests are correct, so the file was not damaged: no run wrote it.
        raise Damaged(f"{path} is damaged: {error}. {ANOTHER}") from error


def _chosen(run: Path, pointer: str) -> str:
    """The checkpoint that a pointer of a run names, or the next of `final`, `best` and `last` that exists.

    Errors: CheckpointError if there is none; Damaged if a complete run has lost one of them, since the next one would
    silently be another network.
    """
    order = ("final", "best", "last")
    noted = runs.checkpoints(run)
    for number, name in enumerate(order[order.index(pointer) :], start=order.index(pointer) + 1):
        checkpoint_name, place = reading.pointed(run / CHECKPOINTS, name), run / CHECKPOINTS / name
        if name in noted and checkpoint_name != noted[name]:
            others = f", or choose other weights explicitly: --weights {order[number]}" if number < len(order) else ""
            what = "is missing" if checkpoint_name is None else f"names {checkpoint_name}"
            raise Damaged(f"{place} {what}; the run wrote {noted[name]} in it. Bring it back{others}.")
        if checkpoint_name is not None:
            return checkpoint_name
    raise CheckpointError(f"{run} has no checkpoint yet. Give a run that has, or a file of weights.")


def translated(weights: Weights, networks: Networks, models: Mapping[str, cfg.Model]) -> tuple[Weights, list[Names]]:
    """Weights of a foreign file in the names and layouts of these networks; and the tables that were used.

    Weights of a run stay as they are. Errors: CheckpointError for weights of a network that computes something else.
    """
    if not weights.is_foreign:
        return weights, []
    used: list[Names] = []
    arrays: dict[str, np.ndarray] = {}
    offered = addressed(weights.arrays, tuple(models))
    for name, model in models.items():
        own = {key.removeprefix(f"{name}."): value for key, value in offered.items() if key.startswith(f"{name}.")}
        try:
            renamed = names_of.translate(own, networks[name], names_of.of(model), weights.by_torch)
        except CheckpointError as error:
            raise CheckpointError(f"{weights.origin} does not fit {cfg.model_name(model)}. {error}") from error
        arrays |= {f"{name}.{key}": value for key, value in renamed.arrays.items()}
        used += [renamed.names] if renamed.names else []
    return replace(weights, arrays=arrays), used


def restructure(networks: Networks, names: tuple[str, ...], weights: Weights, settings: cfg.Compression) -> None:
    """Give freshly built networks the structure of these weights: pruned channels and fake quantization.

    Errors: CheckpointError if they are of other networks.
    """
    offered = addressed(weights.arrays, names)
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
    remedy: str = "Choose the same model and number of classes, or load what fits: checkpoint.strict=false",
    anew: Collection[str] = (),
) -> Loaded:
    """Load the weights that fit in name and shape.

    `names` are the networks in it; weights without such a prefix, or of `student` alone, are loaded into each of them.
    Parameters in `anew` keep their initial weights. Errors: CheckpointError listing what is missing, unused or of
    another shape if `strict`; otherwise if less than half of the values fit; a value that is not finite.
    """
    own = network.state_dict()
    offered = {name: value for name, value in addressed(weights.arrays, names).items() if name not in anew}
    wanted = [name for name in own if name not in anew]
    fitting = {name: value for name, value in offered.items() if name in own and list(value.shape) == own[name].shape}
    missing = [name for name in wanted if name not in offered]
    unused = [name for name in offered if name not in own]
    reshaped = [name for name in offered if name in own and name not in fitting]
    numbers = [sum(math.prod(own[name].shape) for name in some) for some in (fitting, wanted)]
    too_few = numbers[0] < LEAST * numbers[1] or not fitting
    if too_few or (strict and (missing or unused or reshaped)):
        if too_few and not strict:
            remedy = (
                "That is less than half of its values, so it would be another network. Give weights of this model, or "
                "choose the model that they are of."
            )
        raise CheckpointError(
            f"{weights.origin} does not fit the network: {len(fitting)} of {len(wanted)} tensors match"
            + _listed("missing", missing)
            + _listed("not used", unused)
            + _listed("of another shape", [f"{n} {list(offered[n].shape)}≠{list(own[n].shape)}" for n in reshaped])
            + f"\n{remedy}"
        )
    _refuse_not_finite(weights.origin, fitting)
    for name, value in fitting.items():
        own[name].set_value(paddle.to_tensor(np.ascontiguousarray(value)).astype(own[name].dtype))
    line = f"{len(fitting)} of {len(own)} tensors from {weights.origin}" + (
        f" ({len(missing)} missing, {len(reshaped)} of another shape, {len(unused)} not used)" if not strict else ""
    )
    return Loaded(line, own.keys() - fitting.keys())


def plans(weights: Weights, names: tuple[str, ...]) -> dict[str, Any]:
    """Network → what was pruned from the weights that it is given; empty if nothing was."""
    has_all = _has_all(weights.arrays, names)
    return {name: weights.plan.get(name if has_all else "student", {}) for name in names} if weights.plan else {}


def _has_all(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> bool:
    """Whether each of these networks has arrays of its own; else all are given those of the student."""
    return {name.partition(".")[0] for name in arrays} >= set(names)


def addressed(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays under the names of the networks they are meant for."""
    if _has_all(arrays, names):
        return {name: value for name, value in arrays.items() if name.partition(".")[0] in names}
    single = {
        name.removeprefix("student."): value
        for name, value in arrays.items()
        if name.startswith("student.") or not NETWORK.fullmatch(name.partition(".")[0])
    }
    return {f"{network}.{name}": value for network in names for name, value in single.items()}


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"\n  {len(names)} {what}: {', '.join(names[:3])}{more}"
