"""Channel dependencies as union-find labels, which are followed through a program."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Label of what needs no cut: constants, and values that all channels share.
FREE = -1
#: Label of what cannot be cut: channels of images and logits, and all that pass an unknown operator.
BOUND = 0


class Place(NamedTuple):
    """One channel of a parameter."""

    parameter: str
    axis: int
    channel: int


class Labels:
    """Channels as numbers; those that have to be cut together are one class (union-find).

    A value of a program has labels int64 of its own rank, of size 1 along an axis that is not cut.
    """

    def __init__(self) -> None:
        self._parents = [BOUND]
        self._places: list[Place | None] = [None]
        self._known: dict[tuple[str, int], np.ndarray] = {}
        self.summed: set[tuple[str, int]] = set()
        """(parameter, axis) of the weights that sum over channels: what reads those."""

    def of(self, parameter: str, axis: int, size: int) -> np.ndarray:
        """The labels [size] of a parameter along an axis."""
        if (parameter, axis) not in self._known:
            first = len(self._parents)
            self._parents += range(first, first + size)
            self._places += [Place(parameter, axis, channel) for channel in range(size)]
            self._known[parameter, axis] = np.arange(first, first + size)
        return self._known[parameter, axis]

    def bind(self, one: np.ndarray, other: np.ndarray | int) -> np.ndarray:
        """Merge the classes of corresponding entries of two arrays, which are broadcast; returns the labels."""
        first, second = np.broadcast_arrays(one, other)
        for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            if a != b and FREE not in (a, b):
                low, high = sorted((self._root(a), self._root(b)))
                self._parents[high] = low
        return np.where(first == FREE, second, first)

    def bound(self, labels: np.ndarray) -> np.ndarray:
        """Exclude these from cutting; returns labels that say so, [1, …]."""
        self.bind(labels, BOUND)
        return np.full([1] * labels.ndim, BOUND)

    def classes(self) -> list[list[Place]]:
        """The classes that can be cut, each in the order in which its channels became known."""
        classes: dict[int, list[Place]] = defaultdict(list)
        for label, place in enumerate(self._places):
            if place and (root := self._root(label)) != BOUND:
                classes[root].append(place)
        return list(classes.values())

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def reshaped(self, labels: np.ndarray, old: Sequence[int], new: Sequence[int]) -> np.ndarray:
        """Labels after a reshape from `old` to `new`.

        If channels are divided, [C] to [g, C/g], as in a channel shuffle, g is kept: each part loses the same channels.
        """
        if labels.size == 1:
            return labels.reshape([1] * len(new))
        result = np.full([1] * len(new), FREE)
        for before, after in _blocks(old, new):
            own = labels.shape[before.start : before.stop]
            if all(size == 1 for size in own):
                continue
            wide = [size for size in new[after.start : after.stop] if size > 1]
            if sum(size > 1 for size in own) > 1 and len(wide) > 1:
                return self.bound(labels).reshape([1] * len(new))
            full = list(labels.shape)
            full[before.start : before.stop] = old[before.start : before.stop]
            block = np.broadcast_to(labels, full)
            if any(size > 1 for axis, size in enumerate(full) if axis not in before):
                # No operator here has labels along axes of two blocks.
                return self.bound(labels).reshape([1] * len(new))
            block = block.reshape([*new[after.start : after.stop]])
            if len(wide) > 1:
                first = next(axis for axis, size in enumerate(block.shape) if size > 1)
                block = self.bind(block, np.take(block, [0], axis=first))
            shape = [1] * len(new)
            shape[after.start : after.stop] = block.shape
            result = self._joined(result, block.reshape(shape))
        return result

    def _joined(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return other if (one == FREE).all() else self.bind(one, other)


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """The smallest runs of axes of both shapes that have the same number of values, in order."""
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        first, second = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (one := math.prod(old[first:i])) != (other := math.prod(new[second:j])):
            if one < other and i < len(old):
                i += 1
            elif j < len(new):
                j += 1
            else:
                return [(range(len(old)), range(len(new)))]
        blocks.append((range(first, i), range(second, j)))
    return blocks
