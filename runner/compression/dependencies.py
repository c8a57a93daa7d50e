"""Groups of channels that pruning cuts together, and cutting them out of parameters."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn

from ..models.input_check import preserved
from . import shapes
from .shapes import Kept
from .trace import follow

#: Tolerated difference between logits without channels and with these channels zero, as a fraction of the largest
#: logit.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Group:
    """Channels of several parameters, divided into units; the channels of a unit are removed together."""

    layers: list[str]
    """Convolutions that these filters belong to, in the order of the network, without depthwise ones."""
    members: list[str]
    """The same with depthwise convolutions."""
    cuts: dict[tuple[str, int], np.ndarray]
    """(parameter, axis) → int64 [units, n]: the channels of each unit there."""
    readers: list[tuple[str, int]]
    """Those of the weights that sum over these channels: of the layers that read them."""

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.cuts[self.master])

    @property
    def master(self) -> tuple[str, int]:
        """The weight of the first convolution."""
        return f"{self.layers[0]}.weight", 0


#: Removed units of each group, in the order of the groups.
Removed = Sequence[np.ndarray]


def find(network: nn.Layer, input_shape: tuple[int, int, int]) -> list[Group]:
    """The groups of filters of a network that can be cut, in the order of their first convolutions.

    A group can be cut if the network without half of its units computes the same as with zeros in their place. Filters
    that are bound to images or logits, or pass an unknown operator, are in no group. Errors: ConfigError if the network
    cannot be traced.
    """
    groups = _groups(network, input_shape)
    if not groups or _is_equal(network, input_shape, groups):
        return groups
    return [group for group in groups if _is_equal(network, input_shape, [group])]


def _groups(network: nn.Layer, input_shape: tuple[int, int, int]) -> list[Group]:
    convolutions = {
        f"{name}.weight" if name else "weight": layer
        for name, layer in network.named_sublayers(include_self=True)
        if isinstance(layer, nn.Conv2D)
    }
    order = {weight: number for number, weight in enumerate(convolutions)}
    alike: dict[tuple[tuple[str, int, int], ...], list[dict[tuple[str, int], list[int]]]] = defaultdict(list)
    labels = follow(network, input_shape)
    for places in labels.classes():
        unit: dict[tuple[str, int], list[int]] = defaultdict(list)
        for parameter, axis, index in places:
            unit[parameter, axis].append(index)
        signature = tuple(sorted((parameter, axis, len(indices)) for (parameter, axis), indices in unit.items()))
        alike[signature].append(unit)
    groups = []
    for units in alike.values():
        weights = sorted({name for name, axis in units[0] if axis == 0 and name in order}, key=order.__getitem__)
        full = [name for name in weights if not shapes.is_depthwise(convolutions[name])]
        if not full:
            continue
        first = full[0], 0
        units.sort(key=lambda unit: min(unit[first]))
        cuts = {key: np.array([unit[key] for unit in units]) for key in units[0]}
        layers, members = ([name.removesuffix("weight").removesuffix(".") for name in some] for some in (full, weights))
        groups.append(Group(layers, members, cuts, [key for key in cuts if key in labels.summed]))
    return sorted(groups, key=lambda group: order[group.master[0]])


def kept(network: nn.Layer, groups: Sequence[Group], removed: Removed) -> Kept:
    """The remaining channels of each parameter after removing units."""
    own = network.state_dict()
    gone: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for group, units in zip(groups, removed, strict=True):
        for key, indices in group.cuts.items() if len(units) else ():
            gone[key].append(indices[units].ravel())
    result: Kept = defaultdict(dict)
    for (name, axis), lost in gone.items():
        result[name][axis] = np.setdiff1d(np.arange(own[name].shape[axis]), np.concatenate(lost)).tolist()
    return dict(result)


@contextlib.contextmanager
def without(network: nn.Layer, cut: Kept) -> Iterator[None]:
    """Cut the network within the context; it is restored afterwards."""
    before, groups = _values(network, cut), shapes.groups(network)
    shapes.cut(network, cut)
    try:
        yield
    finally:
        shapes.replace(network, before, groups)


@contextlib.contextmanager
def masked(network: nn.Layer, cut: Kept) -> Iterator[None]:
    """Set what would be cut to zero within the context; the network is restored afterwards."""
    before, own = _values(network, cut), network.state_dict()
    for name, axes in cut.items():
        value = before[name].copy()
        for axis, indices in axes.items():
            gone = np.setdiff1d(np.arange(value.shape[axis]), indices)
            value[(slice(None),) * axis + (gone,)] = 0
        own[name].set_value(value)
    try:
        yield
    finally:
        shapes.replace(network, before)


def _values(network: nn.Layer, cut: Mapping[str, object]) -> dict[str, np.ndarray]:
    own = network.state_dict()
    return {name: own[name].numpy() for name in cut}


def _is_equal(network: nn.Layer, input_shape: tuple[int, int, int], groups: list[Group]) -> bool:
    """Whether cutting half of each group has the same result as setting it to zero."""
    cut = kept(network, groups, [np.arange(0, group.units - 1, 2) for group in groups])
    images = np.random.default_rng(0).standard_normal((2, *input_shape), dtype=np.float32)
    try:
        with masked(network, cut):
            expected = _logits(network, images)
        with without(network, cut):
            actual = _logits(network, images)
    except Exception:
        # The only base class of Paddle's errors.
        return False
    same = [one.shape == other.shape for one, other in zip(expected, actual, strict=True)]
    return all(same) and all(
        np.abs(one - other).max() <= TOLERANCE * max(1e-6, np.abs(one).max())
        for one, other in zip(expected, actual, strict=True)
    )


@paddle.no_grad()
def _logits(network: nn.Layer, images: np.ndarray) -> list[np.ndarray]:
    with preserved(network):
        network.eval()
        output = network(paddle.to_tensor(images))
    tensors = [output] if isinstance(output, Tensor) else paddle.utils.flatten(output)
    return [tensor.numpy() for tensor in tensors if isinstance(tensor, Tensor)]
