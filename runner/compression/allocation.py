"""Divides pruning among groups of filters so that the network fits its budget."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from paddle import nn

from .. import config as cfg
from ..models import cost
from .dependencies import Group

#: Remaining units, in the order of the groups.
Counts = list[int]
#: Steps of a bisection.
SEARCH_STEPS = 12


class Costs:
    """Costs of a network with fewer units in its groups, computed from its shapes."""

    def __init__(self, network: nn.Layer, groups: list[Group], input_shape: tuple[int, int, int]) -> None:
        self.groups = groups
        statistics = ("._mean", "._variance")
        self._shapes = {
            name: parameter.shape for name, parameter in network.named_parameters() if not name.endswith(statistics)
        }
        values = cost.macs_by_weight(network, input_shape)
        self._positions = {name: macs // math.prod(self._shapes[name]) for name, macs in values.items()}
        self._filters = [
            f"{name}.weight" if name else "weight"
            for name, layer in network.named_sublayers(include_self=True)
            if isinstance(layer, nn.Conv2D)
        ]

    def of(self, budget: cfg.Budget, counts: Sequence[int]) -> int:
        """Filters, parameters or MACs; latency is bounded by MACs."""
        shapes = self._with(counts)
        match budget:
            case cfg.Budget.filters:
                return sum(shapes[name][0] for name in self._filters)
            case cfg.Budget.params:
                return sum(map(math.prod, shapes.values()))
        return sum(positions * math.prod(shapes[name]) for name, positions in self._positions.items())

    def are_within(self, budget: cfg.Budget, limit: float, counts: Sequence[int]) -> bool:
        """Whether it costs no more than this with so many units."""
        return self.of(budget, counts) <= limit

    def _with(self, counts: Sequence[int]) -> dict[str, list[int]]:
        lost: dict[tuple[str, int], int] = defaultdict(int)
        for group, left in zip(self.groups, counts, strict=True):
            for key, indices in group.cuts.items():
                lost[key] += (group.units - left) * indices.shape[1]
        return {
            name: [size - lost.get((name, axis), 0) for axis, size in enumerate(shape)]
            for name, shape in self._shapes.items()
        }


@dataclass
class Division:
    """The groups among which the cut is divided; each keeps a multiple of `step`, at least one."""

    groups: Sequence[Group]
    before: Sequence[int]
    """Units that each group had before anything was pruned."""
    multiple: int
    """The number of remaining channels is a multiple of this."""
    fits: Callable[[Counts], bool]
    """Whether a network with these counts is within its budget."""

    @property
    def whole(self) -> Counts:
        """All units of every group."""
        return [group.units for group in self.groups]

    def step(self, place: int) -> int:
        """The units of a group that make `multiple` channels."""
        channels = self.groups[place].cuts[self.groups[place].master].shape[1]
        return max(1, self.multiple // math.gcd(self.multiple, channels))

    def left(self, place: int, share: float) -> int:
        """Remaining units of a group after losing a share of its original ones."""
        step, units = self.step(place), self.groups[place].units
        if share <= 0:
            return units
        return min(units, max(step, round((1 - share) * self.before[place] / step) * step))

    def least(self) -> Counts:
        """The fewest units that may be left."""
        return [self.left(place, 1.0) for place in range(len(self.groups))]


def uniform(division: Division) -> Counts:
    """Every group loses the same share of its original units."""

    def at(share: float) -> Counts:
        return [division.left(place, share) for place in range(len(division.groups))]

    return at(_smallest(lambda share: division.fits(at(share))))


def ranking(division: Division, scores: Sequence[np.ndarray]) -> Counts:
    """Remove the blocks of units with the lowest mean scores of all groups; of equal ones the first."""
    blocks: list[tuple[float, int, int, int]] = []
    for place, group in enumerate(division.groups):
        step, ordered = division.step(place), np.sort(scores[place])
        begin, lowest = 0, -math.inf
        while group.units - begin > step:
            size = (group.units - begin) % step or step
            # Within a group, later blocks never rank before earlier ones.
            lowest = max(lowest, float(ordered[begin : begin + size].mean()))
            blocks.append((lowest, place, begin, size))
            begin += size
    blocks.sort()

    def without(count: int) -> Counts:
        left = division.whole
        for _, place, _, size in blocks[:count]:
            left[place] -= size
        return left

    low, high = 0, len(blocks)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if division.fits(without(middle)) else (middle + 1, high)
    return without(high)


def sensitivity(division: Division, losses: Sequence[dict[float, float]]) -> Counts:
    """Every group loses the share of units that costs the same fraction of the accuracy.

    `losses` has a curve for each group: share of units → fraction of the accuracy that is lost. If even the largest
    measured shares leave too much, every group loses the same fraction of the rest; if the shares remove too much, all
    are scaled down by one factor. Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, prune by such curves.
    """

    def counts(shares: Sequence[float]) -> Counts:
        left = []
        for place, share in enumerate(shares):
            step, units = division.step(place), division.groups[place].units
            left.append(min(units, max(step, round((1 - share) * units / step) * step)))
        return left

    def at(loss: float) -> list[float]:
        return [_largest_share(curve, loss) for curve in losses]

    shares = at(_smallest(lambda loss: division.fits(counts(at(loss)))))
    if not division.fits(counts(shares)):
        more = _smallest(lambda more: division.fits(counts([share + more * (1 - share) for share in shares])))
        return counts([share + more * (1 - share) for share in shares])
    # Accuracy on few images is a step function, and the first step may already remove too much.
    part = _smallest(lambda part: division.fits(counts([part * share for share in shares])))
    return counts([part * share for share in shares])


def _smallest(holds: Callable[[float], bool]) -> float:
    """The smallest number from 0 to 1 from which on a monotone condition holds; 1 if it never does."""
    low, high = 0.0, 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _largest_share(curve: dict[float, float], loss: float) -> float:
    """The largest share with at most this loss, interpolated between measured ones."""
    share, lost = 0.0, 0.0
    for next_share, next_lost in sorted(curve.items()):
        if next_lost > loss:
            return share + (next_share - share) * (loss - lost) / (next_lost - lost) if loss > lost else share
        share, lost = next_share, next_lost
    return share
