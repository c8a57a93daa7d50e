"""Holding out training images, stratified by class: folds, validation and test splits; groups are not divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import DataError
from . import seen
from .labels import class_counts, stratified_split
from .splits import Source, Split

#: Default fraction of a set without splits that is held out for the test.
WHOLE = 0.2
#: What to do if a class has too few images, or its images are in too few groups.
REMEDY = "Use fewer folds or a smaller part, add images, or remove data.group_column."


def fold(split: Split, folds: int, number: int, seed: int, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out) indices, both ascending, of fold `number`: an image is held out in exactly one of `folds`.

    Every class is spread over the folds as evenly as its images, or their groups, allow. Errors: DataError if a class
    would keep no image.
    """
    count, labels = len(split), split.labels
    if split.groups is not None or labels.ndim == 2:
        groups = np.arange(count) if split.groups is None else split.groups
        part = grouped(labels, groups, [1 / folds] * folds, seed, len(classes))
    else:
        order = np.random.default_rng(seed).permutation(count)
        # Folds are dealt class after class, each continuing where the one before ended, so that their sizes stay equal.
        order = order[np.argsort(labels[order], kind="stable")]
        part = np.empty(count, np.int64)
        part[order] = np.arange(count) % folds
    return _divided(split, part == number, classes, f"fold {number} of {folds}")


def hold_out(split: Split, fraction: float, seed: int, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out) indices, both ascending, with about `fraction` held out: whole groups if there are any.

    Errors: DataError if a class would keep no image.
    """
    if split.groups is None:
        # By its name an image stays where it is when others are added.
        return stratified_split(split.labels, fraction, seed, classes, seen.draws(split, seed))
    part = grouped(split.labels, split.groups, [1 - fraction, fraction], seed, len(classes))
    return _divided(split, part == 1, classes, f"{fraction:.0%} of the images")


def with_test(source: Source, fraction: float | None, seed: int) -> Source:
    """The source with a test split held out of its training images, if one is wanted.

    By default `WHOLE` is held out of a set without splits, and nothing of one with splits. Errors: DataError for a
    fraction if there is a test split.
    """
    if source.test is not None:
        if fraction is not None:
            raise DataError(f"data.test_fraction={fraction}: '{source.name}' has a test split. Remove the fraction.")
        return source
    if fraction is None:
        fraction = WHOLE if source.is_undivided else 0
    if not fraction:
        return source
    kept, held_out = hold_out(source.train, fraction, seed, source.classes)
    return replace(source, train=source.train.select(kept), test=source.train.select(held_out))


def with_validation(source: Source, fraction: float, folds: int | None, number: int, seed: int) -> Source:
    """The source with a validation split held out of its training images: a fold, or else a fraction, if one is wanted.

    Errors: DataError for folds if there is a validation split.
    """
    if source.val is not None:
        if folds:
            raise DataError(f"data.folds={folds}: '{source.name}' has a validation split. Remove data.folds.")
        return source
    if folds:
        kept, held_out = fold(source.train, folds, number, seed, source.classes)
    elif fraction:
        kept, held_out = hold_out(source.train, fraction, seed, source.classes)
    else:
        return source
    return replace(source, train=source.train.select(kept), val=source.train.select(held_out))


def grouped(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int, classes: int) -> np.ndarray:
    """The part of each image, int64 [N]: groups, int64 [N], stay whole and parts have their share of every class.

    Groups are assigned in order of size, the largest first and equal ones at random; each goes to the part that has
    fewest images of its classes relative to the part's share. labels: int64 [N] or uint8 [N, K].
    """
    _, of_image = np.unique(groups, return_inverse=True)
    table = np.zeros((of_image.max(initial=-1) + 1, classes))
    if labels.ndim == 2:
        np.add.at(table, of_image, labels)
    else:
        np.add.at(table, (of_image, labels), 1)
    weights = 1 / np.maximum(class_counts(labels, classes), 1) ** 2
    sizes = np.bincount(of_image)
    chance = np.random.default_rng(seed).permutation(len(sizes))
    filled, images = np.zeros((len(shares), classes)), np.zeros(len(shares))
    part = np.zeros(len(sizes), np.int64)
    for group in chance[np.argsort(-sizes[chance], kind="stable")]:
        fullness = (filled + table[group] / 2) @ (weights * table[group]) / shares
        # Of equally full parts the one with fewer images.
        part[group] = np.lexsort((images / shares, fullness.round(12)))[0]
        filled[part[group]] += table[group]
        images[part[group]] += sizes[group]
    return part[of_image]


def _divided(split: Split, is_held_out: np.ndarray, classes: Sequence[str], what: str) -> tuple[np.ndarray, np.ndarray]:
    kept, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(held_out):
        raise DataError(f"Holding out {what} would hold out no image of {len(split)}. {REMEDY}")
    all_of, left = (class_counts(split.labels[places], len(classes)) for places in (slice(None), kept))
    if lost := [classes[place] for place in np.flatnonzero((all_of > 0) & (left == 0))]:
        raise DataError(f"Holding out {what} leaves no image of class {lost[0]} to train on. {REMEDY}")
    return kept, held_out
