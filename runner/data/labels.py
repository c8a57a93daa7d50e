"""What labels say of a set, and how a set is divided by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Images of each class, int64 [K]."""
    return labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def has_class(labels: np.ndarray, label: int) -> np.ndarray:
    """Which images are of a class, bool [N]."""
    return labels[:, label] == 1 if labels.ndim == 2 else labels == label


def label_sets(labels: np.ndarray) -> np.ndarray:
    """A number for each image that is the same for those of the same labels, int64 [N]."""
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1) if labels.ndim == 2 else labels


def label_text(label: np.ndarray, classes: Sequence[str]) -> str:
    """An image's label by name, or its many: `cat, dog`."""
    if label.ndim == 0:
        return classes[int(label)]
    return ", ".join(classes[place] for place in np.flatnonzero(label)) or "no label"


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int, names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out) indices, both rising; ⌈fraction·N⌉ are held out, of each class in proportion.

    labels: int64 [N]; `names` of the classes are for messages. Sets of many labels, uint8 [N, K], are too many kinds to
    be divided each: of them all are one class. Errors: DataError where a class would keep none.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    # 0.07 · 100 is 7.000000000000001.
    total = int(np.ceil(round(fraction * len(labels), 6)))
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * total / len(labels)
    quotas = np.floor(shares).astype(int)
    # What is left over goes to the classes that are furthest from their share, and not to one that would lose all.
    while total > quotas.sum() and (quotas + 1 < counts).any():
        order = np.argsort(-(shares - quotas), kind="stable")
        able = order[(quotas + 1 < counts)[order]]
        quotas[able[: total - quotas.sum()]] += 1
    if quotas.sum() < total or (quotas >= counts).any():
        scarce = np.argmin(counts)
        name = names[classes[scarce]] if names else classes[scarce]
        # Of images with many labels all are of one class here.
        which = f" of class {name}, which has {counts[scarce]}," if len(classes) > 1 else ""
        raise DataError(
            f"Holding out {fraction:.0%} of {len(labels)} images leaves none{which} to train on. Lower "
            "data.val_fraction (or data.test_fraction), or add images."
        )
    generator = np.random.default_rng(seed)
    held = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    held_out = np.sort(np.concatenate(held)) if held else np.array([], dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def first_of_each_class(labels: np.ndarray, limit: int) -> np.ndarray:
    """Rising indices of `limit` images, taken class after class in turn, so that small limits have all classes.

    Of many labels each set of them counts as a class.
    """
    labels = label_sets(labels)
    turns = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turns[places] = np.arange(len(places))
    return np.sort(np.lexsort((labels, turns))[:limit])
