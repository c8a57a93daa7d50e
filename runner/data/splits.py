"""Labelled splits, in memory or on disk, and how one is divided."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from ..images import MAX_PIXELS, decode


@dataclass
class Images:
    """A split in memory."""

    images: np.ndarray
    """uint8 [N, S, S, C], C 1 (grey) or 3."""
    labels: np.ndarray
    """int64 [N]."""

    def __post_init__(self) -> None:
        self.images = np.ascontiguousarray(self.images)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> Images:
        """The images at these places."""
        return Images(self.images[indices], self.labels[indices])


@dataclass
class ImageFiles:
    """A split on disk, decoded when a batch is read."""

    paths: list[str]
    labels: np.ndarray
    """int64 [N]."""
    image_size: int
    """Side in pixels that images are scaled to."""
    max_pixels: int = MAX_PIXELS
    """Images with more are refused before they are decoded."""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> ImageFiles:
        """The images at these places."""
        return replace(self, paths=[self.paths[index] for index in indices], labels=self.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """One image: uint8 [S, S, 3]. Errors: DataError naming the file."""
        return decode(self.paths[index], self.image_size, self.max_pixels)


Split = Images | ImageFiles


@dataclass
class Source:
    """A labelled set of images."""

    name: str
    classes: list[str]
    """Names of the classes; a label is an index into them."""
    train: Split
    test: Split
    val: Split | None = None


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out) indices, both rising; ⌈fraction·N⌉ are held out, of each class in proportion.

    labels: int64 [N]. Errors: DataError where nothing would be left to keep.
    """
    # 0.07 · 100 is 7.000000000000001.
    total = int(np.ceil(round(fraction * len(labels), 6)))
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * total / len(labels)
    quotas = np.floor(shares).astype(int)
    for place in np.argsort(-(shares - quotas), kind="stable")[: total - quotas.sum()]:
        quotas[place] += 1
    if (quotas >= counts).any():
        scarce = classes[np.argmax(quotas - counts)]
        raise DataError(
            f"Holding out {fraction:.0%} of {len(labels)} images leaves none of class {scarce} to train on. "
            "Lower data.val_fraction (or data.test_fraction)."
        )
    generator = np.random.default_rng(seed)
    held = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    held_out = np.sort(np.concatenate(held)) if held else np.array([], dtype=np.int64)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def first_of_each_class(labels: np.ndarray, limit: int) -> np.ndarray:
    """Rising indices of `limit` images, taken class after class in turn, so that small limits have all classes."""
    turns = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turns[places] = np.arange(len(places))
    return np.sort(np.lexsort((labels, turns))[:limit])
