"""Counting labels, and splitting a set in proportion to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..terminal import counted


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Images of each class, int64 [K]."""
    return labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def epoch_shares(labels: np.ndarray, soft: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Sum of the shares of each class over the images of an epoch, float64 [K].

    labels: int64 [N], the most probable classes; soft: float32 [N, K]; quotas: int64 [K], how many images of each most
    probable class an epoch has.
    """
    repeats = quotas / np.maximum(class_counts(labels, len(quotas)), 1)
    return repeats[labels] @ soft.astype(np.float64)


def has_class(labels: np.ndarray, label: int) -> np.ndarray:
    """Which images are of a class, bool [N]."""
    return labels[:, label] == 1 if labels.ndim == 2 else labels == label


def label_sets(labels: np.ndarray) -> np.ndarray:
    """A number for each image, equal for images with the same set of labels, int64 [N]."""
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1) if labels.ndim == 2 else labels


def label_text(label: np.ndarray, classes: Sequence[str]) -> str:
    """The name of an image's label; multi-label: of all its labels, `cat, dog`."""
    if label.ndim == 0:
        return classes[int(label)]
    return ", ".join(classes[place] for place in np.flatnonzero(label)) or "no label"


def stratified_split(
    labels: np.ndarray,
    fraction: float,
    seed: int,
    names: Sequence[str] | None = None,
    draws: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out) indices, both ascending; ⌈fraction·N⌉ are held out, of each class in proportion.

    labels: int64 [N]; class `names` are for messages. Multi-label images, uint8 [N, K], are divided as one class, since
    most sets of labels are rare. The images of a class with the lowest `draws`, uint64 [N], are held out; without them,
    random ones. Errors: DataError if a class would keep no image.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    # 0.07 · 100 is 7.000000000000001.
    total = int(np.ceil(round(fraction * len(labels), 6)))
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * total / len(labels)
    quotas = np.floor(shares).astype(int)
    # The remainder goes to the classes that are furthest below their share, but never takes the last image of one.
    while total > quotas.sum() and (quotas + 1 < counts).any():
        order = np.argsort(-(shares - quotas), kind="stable")
        able = order[(quotas + 1 < counts)[order]]
        quotas[able[: total - quotas.sum()]] += 1
    if quotas.sum() < total or (quotas >= counts).any():
        scarce = np.argmin(counts)
        name = names[classes[scarce]] if names else classes[scarce]
        # Multi-label images are one class here.
        which = f" of class {name}, which has {counts[scarce]}," if len(classes) > 1 else ""
        raise DataError(
            f"Holding out {fraction:.0%} of {counted(len(labels), 'image')} leaves none{which} to train on. Lower "
            "data.val_fraction (or data.test_fraction), or add images."
        )
    generator, held = np.random.default_rng(seed), []
    for label, quota in zip(classes, quotas, strict=True):
        places = np.flatnonzero(labels == label)
        order = generator.permutation(places) if draws is None else places[np.argsort(draws[places], kind="stable")]
        held.append(order[:quota])
    held_out = np.sort(np.concatenate(held)) if held else np.array([], dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def first_of_each_class(labels: np.ndarray, limit: int) -> np.ndarray:
    """Ascending indices of `limit` images, taken from the classes in turn, so that small limits contain all classes.

    Multi-label: each set of labels counts as a class.
    """
    labels = label_sets(labels)
    turns = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turns[places] = np.arange(len(places))
    return np.sort(np.lexsort((labels, turns))[:limit])
