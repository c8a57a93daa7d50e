"""Finding duplicates: images with the same bytes, or so similar that they show the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .facts import DECODED
from .labels import label_sets

#: Most bits of the 128-bit perceptual hash in which similar images differ, and fewest bits that must be set: an image
#: with hardly any edges has no telling hash.
DIFFERENT, NEEDED = 3, 10
#: Most pairs that are compared, and most pairs of an overlap that are named.
MOST_PAIRS, EXAMPLES = 30_000_000, 12
_EVEN = np.uint64(0x5555555555555555)
#: The number of set bits of each 16-bit number.
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1)


@dataclass
class Overlap:
    """Duplicates between two splits, or within one: repeated in the same class or, for `train`, in two classes."""

    first: str
    """Name of a split."""
    second: str
    """Name of another split, or of the same one."""
    equal: int = 0
    """Images of the second split whose bytes equal those of an image of the first."""
    alike: int = 0
    """Further images of the second that are similar to one of the first."""
    examples: list[tuple[int, int]] = field(default_factory=list)
    """(index in the first, index in the second) of some of them, equal ones first."""
    in_class: bool = False
    """Whether they are repeated within one class of one split (same bytes only)."""


@dataclass
class Duplicates:
    """All duplicates of a set."""

    overlaps: list[Overlap] = field(default_factory=list)
    """Pairs of splits that have images in common."""
    looked_at: int = 0
    """Images that were compared; those that were not decoded cannot be."""
    complete: bool = True
    """Whether all similar pairs were compared."""


def find(facts: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Duplicates:
    """Compare all pictures of a set. facts: split → `facts.FACTS` [N]; labels: split → int64 [N], or uint8 [N, K]."""
    names = list(facts)
    every = np.concatenate(list(facts.values()))
    split = np.repeat(np.arange(len(names)), [len(one) for one in facts.values()])
    place = np.concatenate([np.arange(len(one)) for one in facts.values()])
    label = label_sets(np.concatenate(list(labels.values())))
    seen = np.flatnonzero(every["level"] == DECODED)
    every, split, place, label = every[seen], split[seen], place[seen], label[seen]
    content = np.unique(every["content"], return_inverse=True)[1]
    likeness, pairs, complete = _alike(every)
    overlaps = []
    for first, second in itertools.combinations_with_replacement(range(len(names)), 2):
        ours, theirs = split == first, split == second
        if first != second:
            equal, alike = _in_other_split(content, ours, theirs), _in_other_split(likeness, ours, theirs, pairs)
        elif names[first] == "train":
            equal, alike = _in_other_class(content, label, ours), _in_other_class(likeness, label, ours, pairs)
        else:
            continue
        alike[equal >= 0] = -1
        matches = [np.flatnonzero(partners >= 0) for partners in (equal, alike)]
        if len(matches[0]) or len(matches[1]):
            partners = np.maximum(equal, alike)
            examples = [(int(place[partners[one]]), int(place[one])) for one in np.concatenate(matches)[:EXAMPLES]]
            overlaps.append(Overlap(names[first], names[second], len(matches[0]), len(matches[1]), examples))
    for number, name in enumerate(names):
        again, partners = _in_own_class(content, label, split == number)
        if len(again):
            examples = [(int(place[partners[one]]), int(place[one])) for one in again[:EXAMPLES]]
            overlaps.append(Overlap(name, name, len(again), examples=examples, in_class=True))
    return Duplicates(overlaps, len(every), complete)


def _in_other_split(
    group: np.ndarray, ours: np.ndarray, theirs: np.ndarray, pairs: np.ndarray | None = None
) -> np.ndarray:
    """For each of `theirs` the first of `ours` in the same group, or in a similar one; -1 without one.

    group: int64 [M], -1 for none; ours, theirs: bool [M]; pairs: int64 [P, 2] of similar groups. Returns int64 [M].
    """
    first = near = _first(group, ours)
    if pairs is not None and len(pairs):
        near = first.copy()
        for one, other in (pairs.T, pairs.T[::-1]):
            news = (near[one] < 0) & (first[other] >= 0)
            near[one[news]] = first[other[news]]
    return np.where(theirs & (group >= 0), near[group], -1)


def _in_other_class(
    group: np.ndarray, label: np.ndarray, ours: np.ndarray, pairs: np.ndarray | None = None
) -> np.ndarray:
    """The same for those of `ours` that come after one of another class."""
    first = _first(group, ours)
    partners = np.where(ours & (group >= 0), first[group], -1)
    partners[(partners >= 0) & (label[partners] == label)] = -1
    if pairs is not None and len(pairs):
        pairs = pairs[(first[pairs] >= 0).all(axis=1)]
        early, late = np.sort(first[pairs], axis=1).T
        near = np.full(len(first), -1)
        near[group[late]] = early
        others = np.where(ours & (group >= 0), near[group], -1)
        news = (partners < 0) & (others >= 0) & (label[others] != label)
        partners[news] = others[news]
    return partners


def _in_own_class(content: np.ndarray, label: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of `ours` that repeat an earlier one of the same class, int64 [A]; and the earlier one of every image."""
    group = np.unique(np.stack([content, label], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    first = _first(group, ours)[group]
    return np.flatnonzero(ours & (first != np.arange(len(group)))), first


def _first(group: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Group → the first of ours in it, -1 if there is none; int64 [groups + 1]."""
    first = np.full(int(group.max(initial=-1)) + 2, -1)
    places = np.flatnonzero(ours & (group >= 0))[::-1]
    first[group[places]] = places
    return first


def _alike(facts: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Group of equal hashes of each image (-1: no telling hash), pairs of similar groups, whether these are all."""
    both = np.stack([facts["across"], facts["down"]], axis=1)
    group = np.full(len(facts), -1)
    telling = np.flatnonzero(_bits(both).sum(axis=1) >= NEEDED)
    if not len(telling):
        return group, np.zeros((0, 2), np.int64), True
    unique, group[telling] = np.unique(both[telling], axis=0, return_inverse=True)
    # Two hashes that differ in at most 3 bits agree entirely in one of four bands.
    bands = [bits & mask for bits in unique.T for mask in (_EVEN, ~_EVEN)]
    similar, left = [np.zeros((0, 2), np.int64)], MOST_PAIRS
    for members in itertools.chain.from_iterable(map(_agreeing, bands)):
        size = members.shape[1]
        left -= len(members) * size * (size - 1) // 2
        if left < 0:
            break
        one, other = np.triu_indices(size, 1)
        candidates = np.stack([members[:, one], members[:, other]], axis=-1).reshape(-1, 2)
        distance = _bits(unique[candidates[:, 0]] ^ unique[candidates[:, 1]]).sum(axis=1)
        similar.append(candidates[distance <= DIFFERENT])
    return group, np.concatenate(similar), left >= 0


def _agreeing(band: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of equal numbers, int64 [groups, size]: groups of one size at a time, small ones first."""
    order = np.argsort(band, kind="stable")
    begins = np.flatnonzero(np.r_[True, band[order][1:] != band[order][:-1]])
    sizes = np.diff(np.r_[begins, len(band)])
    for size in np.unique(sizes[sizes > 1]):
        groups = begins[sizes == size]
        # Limits memory to about a million pairs at a time.
        step = max(1, 2_000_000 // int(size) ** 2)
        for begin in range(0, len(groups), step):
            yield order[groups[begin : begin + step, None] + np.arange(size)]


def _bits(numbers: np.ndarray) -> np.ndarray:
    """The number of set bits of numbers, uint64."""
    parts = np.ascontiguousarray(numbers).view(np.uint16).reshape(*numbers.shape, 4)
    return _ONES[parts].sum(axis=-1, dtype=np.int64)
