"""Translates weights from the names and layouts of another framework."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from paddle import nn

from ...errors import CheckpointError

Arrays = dict[str, np.ndarray]
#: The normalisation by the statistics of ImageNet, which most published weights were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Part of every table: PyTorch's names of running statistics, and its counter.
STATISTICS = ((r"\.running_mean$", "._mean"), (r"\.running_var$", "._variance"))
TORCH, PADDLE = r"(^|\.)(running_(mean|var)|num_batches_tracked)$", r"(^|\.)_(mean|variance)$"
COUNTS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged)$")
#: Prefixes that wrappers (parallel training, compilation, Lightning) add to every name.
WRAPPERS = ("module.", "model.", "_orig_mod.", "network.", "net.")
#: `{2}` is the second group of a match, `{2+1}` one more, `{#}` the rank of the group `n` among those of the file.
_FIELD = re.compile(r"\{(#|\d+)([+-]\d+)?\}")


@dataclass(frozen=True)
class Names:
    """The names that one framework gives the parameters of a family, and how its networks differ."""

    source: str
    rules: tuple[tuple[str, str], ...] = ()
    """Regular expression → replacement, applied one after another to all names."""
    ignored: str = r"(?!)"
    """Names that no network here has, such as those of auxiliary classifiers."""
    epsilon: float | None = None
    """The ε of its normalisation layers, if it differs from the network's."""
    scaled: tuple[tuple[str, float], ...] = ()
    """Our names of weights → a factor.

    Some of Paddle's networks multiply by 1-p after dropout in evaluation, and do not rescale in training: dividing the
    weights of others by 1-p makes both compute the same.
    """
    mean: tuple[float, ...] | None = MEAN
    """The `data.mean` and `std` that most of its ImageNet weights were trained with; None if there are several."""
    std: tuple[float, ...] | None = STD
    refused: str = ""
    """Why its weights do not fit, if its network computes something else; the first of `rules` recognises it by a
    name."""


@dataclass
class Translated:
    """Weights in the names and layouts of a network here."""

    arrays: Arrays
    names: Names | None = None
    """The table that was used; None if the names are the network's own."""
    dropped: list[str] = field(default_factory=list)
    """Weights that the network does not need."""
    unsure: list[str] = field(default_factory=list)
    """Square weights of linear layers that may be either way round, and are taken as they are."""


def translate(arrays: Arrays, network: nn.Layer, tables: Sequence[Names], by_torch: bool | None) -> Translated:
    """The arrays under a network's names and in its layouts; names that no table knows are kept.

    `by_torch`: whether weights of linear layers are [outputs, inputs]; None if that has to be inferred, for each of
    them. Errors: CheckpointError for a network that is known to compute something else.
    """
    own = {name: value.shape for name, value in network.state_dict().items()}
    hint = _by_names(arrays)
    arrays = _unwrapped({name: value for name, value in arrays.items() if not COUNTS.search(name)}, own)
    plain = dict(zip(arrays, _renamed(arrays, STATISTICS), strict=True))
    best, chosen = _count_matches(plain, own), None
    for table in tables:
        if table.refused:
            if best < len(own) / 2 and any(re.search(table.rules[0][0], name) for name in arrays):
                raise CheckpointError(f"These weights are of {table.source}'s network: {table.refused}")
            continue
        renamed = dict(zip(arrays, _renamed(arrays, (*STATISTICS, *table.rules)), strict=True))
        if (matches := _count_matches(renamed, own)) > best:
            best, chosen, plain = matches, table, renamed
    ignored = "|".join(table.ignored for table in tables) or r"(?!)"
    dropped = [name for name in arrays if plain[name] not in own and re.search(ignored, name)]
    named = {plain[name]: value for name, value in arrays.items() if name not in dropped}
    layouts = _layouts(named, network, by_torch, hint)
    laid_out = _laid_out(named, layouts)
    for pattern, factor in chosen.scaled if chosen else ():
        laid_out |= {name: value * np.float32(factor) for name, value in laid_out.items() if re.search(pattern, name)}
    if chosen and chosen.epsilon is not None:
        laid_out = _with_epsilon(laid_out, network, chosen.epsilon)
    return Translated(laid_out, chosen, dropped, [name for name, layout in layouts.items() if layout is None])


def _count_matches(renamed: Mapping[str, str], own: Mapping[str, list[int]]) -> int:
    return sum(name in own for name in set(renamed.values()))


def _by_names(names: Collection[str]) -> bool | None:
    """Whether the names of running statistics are PyTorch's; None if there are none, or those of both."""
    torch, paddle = (any(re.search(pattern, name) for name in names) for pattern in (TORCH, PADDLE))
    return torch if torch != paddle else None


def _unwrapped(arrays: Arrays, own: Mapping[str, list[int]]) -> Arrays:
    """Remove a wrapper's prefix from every name, unless the network has a layer of that name."""
    while arrays:
        wrapper = next((one for one in WRAPPERS if all(name.startswith(one) for name in arrays)), None)
        if wrapper is None or any(name.startswith(wrapper) for name in own):
            break
        arrays = {name.removeprefix(wrapper): value for name, value in arrays.items()}
    return arrays


def _renamed(names: Iterable[str], rules: Iterable[tuple[str, str]]) -> list[str]:
    """The names after all rules, in the same order."""
    renamed = list(names)
    for pattern, replacement in rules:
        compiled = re.compile(pattern)
        ranks: dict[str, int] = {}
        if "{#" in replacement:
            numbers = {match["n"] for name in renamed if (match := compiled.search(name))}
            ordered = sorted(numbers, key=lambda text: [int(number) for number in re.findall(r"\d+", text)])
            ranks = {text: rank for rank, text in enumerate(ordered)}

        def filled(match: re.Match[str], replacement: str = replacement, ranks: dict[str, int] = ranks) -> str:
            def value(part: re.Match[str]) -> str:
                text = str(ranks[match["n"]]) if part[1] == "#" else match[int(part[1])]
                return str(int(text) + int(part[2])) if part[2] else text

            return _FIELD.sub(value, replacement)

        renamed = [compiled.sub(filled, name) for name in renamed]
    return renamed


def _layouts(arrays: Arrays, network: nn.Layer, by_torch: bool | None, hint: bool | None) -> dict[str, bool | None]:
    """Weight of a linear layer → whether it is [outputs, inputs]; None if nothing tells.

    `by_torch`: as in `translate`. A shape tells unless it is square; then the `hint` of the names does, or the other
    layers if they agree.
    """
    shapes = {
        f"{name}.weight" if name else "weight": layer.weight.shape
        for name, layer in network.named_sublayers(include_self=True)
        if isinstance(layer, nn.Linear)
    }
    stored = {name: arrays[name].shape for name in shapes if name in arrays and arrays[name].ndim > 1}
    if by_torch is not None:
        return dict.fromkeys(stored, by_torch)
    fits = {
        name: (math.prod(shape[1:]) == shapes[name][0], shape[0] == shapes[name][0]) for name, shape in stored.items()
    }
    by_shape = {name: torch for name, (torch, paddle) in fits.items() if torch != paddle}
    agreed = set(by_shape.values())
    others = agreed.pop() if len(agreed) == 1 else None
    return {name: by_shape.get(name, others if hint is None else hint) for name in stored}


def _laid_out(arrays: Arrays, layouts: Mapping[str, bool | None]) -> Arrays:
    """Weights of linear layers as [inputs, outputs], also those that were 1×1 or whole-map convolutions."""
    return {name: value.reshape(value.shape[0], -1).T if layouts.get(name) else value for name, value in arrays.items()}


def _with_epsilon(arrays: Arrays, network: nn.Layer, epsilon: float) -> Arrays:
    """Running variances that compensate for another ε: only their sum with ε matters."""
    changed = dict(arrays)
    for name, layer in network.named_sublayers(include_self=True):
        key = f"{name}._variance"
        if isinstance(layer, nn.layer.norm._BatchNormBase) and key in changed:
            changed[key] = (changed[key] + (epsilon - layer._epsilon)).astype(np.float32)
    return changed
