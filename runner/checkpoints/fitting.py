"""Fitting weights to networks: their names and layouts, the pruned structure, and the loading itself."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paddle
from paddle import nn

from .. import compression
from .. import config as cfg
from ..data import listed
from ..errors import CheckpointError
from ..models import Networks
from ..models import names as names_of
from ..models.names import Names
from ..terminal import counted, word_for
from .weights import Weights

#: Names that networks of runs have.
NETWORK = re.compile(r"student\d*")
#: Least fraction of a network's values that must fit: with less it would not be the network that was trained.
LEAST = 0.5


@dataclass
class Loaded:
    """What weights gave to a network."""

    line: str
    """How much of it, for the user."""
    random: set[str]
    """Parameters and statistics that keep their initial values."""


def translate(weights: Weights, networks: Networks, models: Mapping[str, cfg.Model]) -> tuple[Weights, list[Names]]:
    """Weights of a foreign file in the names and layouts of these networks; and the tables that were used.

    Weights of a run stay as they are. Errors: CheckpointError for weights of a network that computes something else.
    """
    if not weights.is_foreign:
        return weights, []
    used: list[Names] = []
    unsure: list[str] = []
    arrays: dict[str, np.ndarray] = {}
    offered = by_network(weights.arrays, tuple(models))
    for name, model in models.items():
        own = {key.removeprefix(f"{name}."): value for key, value in offered.items() if key.startswith(f"{name}.")}
        try:
            renamed = names_of.translate(own, networks[name], names_of.of(model), weights.by_torch)
        except CheckpointError as error:
            raise CheckpointError(f"{weights.origin} does not fit {cfg.model_name(model)}. {error}") from error
        arrays |= {f"{name}.{key}": value for key, value in renamed.arrays.items()}
        used += [renamed.names] if renamed.names else []
        unsure += [f"{name}.{key}" for key in renamed.unsure]
    return replace(weights, arrays=arrays, unsure=unsure), used


def restructure(networks: Networks, names: tuple[str, ...], weights: Weights, settings: cfg.Compression) -> None:
    """Give freshly built networks the structure of these weights: pruned channels and fake quantization.

    Errors: CheckpointError if they are of other networks.
    """
    offered = by_network(weights.arrays, names)
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
    offered = {name: value for name, value in by_network(weights.arrays, names).items() if name not in anew}
    wanted = [name for name in own if name not in anew]
    matching = {name: value for name, value in offered.items() if name in own and list(value.shape) == own[name].shape}
    missing = [name for name in wanted if name not in offered]
    unused = [name for name in offered if name not in own]
    reshaped = [name for name in offered if name in own and name not in matching]
    numbers = [sum(math.prod(own[name].shape) for name in some) for some in (matching, wanted)]
    too_few = numbers[0] < LEAST * numbers[1] or not matching
    if too_few or (strict and (missing or unused or reshaped)):
        if too_few and not strict:
            remedy = (
                "That is less than half of its values, so it would be another network. Give weights of this model, or "
                "choose the model that they are of."
            )
        raise CheckpointError(
            f"{weights.origin} does not fit the network: {len(matching)} of {counted(len(wanted), 'tensor')} "
            f"{word_for(len(wanted), 'matches', 'match')}"
            + _listed("missing", missing)
            + _listed("not used", unused)
            + _listed("of another shape", [f"{n} {list(offered[n].shape)}≠{list(own[n].shape)}" for n in reshaped])
            + f"\n{remedy}"
        )
    _refuse_not_finite(weights.origin, matching)
    for name, value in matching.items():
        own[name].set_value(paddle.to_tensor(np.ascontiguousarray(value)).astype(own[name].dtype))
    line = f"{len(matching)} of {counted(len(own), 'tensor')} from {weights.origin}"
    if not strict:
        line += f" ({len(missing)} missing, {len(reshaped)} of another shape, {len(unused)} not used)"
    if reshaped:
        initial = [f"{name} {list(value.shape)}" for name, value in own.items() if name in reshaped]
        line += f"; {listed(initial, 3)} keep their initial values"
    if unsure := [name for name in weights.unsure if name in matching]:
        line += (
            f"; the file does not tell whether {listed(unsure, 3)} are [outputs, inputs], as in PyTorch: they are "
            "taken as [inputs, outputs]. A .safetensors of PyTorch tells by metadata={'format': 'pt'}"
        )
    return Loaded(line, own.keys() - matching.keys())


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


def plans(weights: Weights, names: tuple[str, ...]) -> dict[str, Any]:
    """Network → what was pruned from the weights that it is given; empty if nothing was."""
    has_all = _has_all(weights.arrays, names)
    return {name: weights.plan.get(name if has_all else "student", {}) for name in names} if weights.plan else {}


def _has_all(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> bool:
    """Whether each of these networks has arrays of its own; else all are given those of the student."""
    return {name.partition(".")[0] for name in arrays} >= set(names)


def by_network(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
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
    return f"\n  {len(names)} {what}: {listed(names, 3)}" if names else ""
