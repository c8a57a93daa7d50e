"""Mixup and CutMix: each image of a step is mixed with another one of that step, and so are their labels.

What is drawn for an image is a function of (seed, epoch, image); its partner follows from the order of the epoch, so
that the mixed images do not depend on the number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import config as cfg
from .draws import Purpose

#: Distance of an image and its partner in a step. With 2, 4 or 8 processes both are in the same process, which need not
#: read images of others, except where a step's end wraps to its beginning and its size is not divisible by their
#: number.
DISTANCE = 8


@dataclass(frozen=True)
class Mixing:
    """What is drawn for N images: within its box an image is blended with its partner."""

    blends: np.ndarray
    """float32 [N]: weight of the image itself within the box; 0 for CutMix."""
    boxes: np.ndarray
    """int64 [N, 4]: top, left, bottom, right (exclusive); the whole image for Mixup, empty for no change."""
    size: tuple[int, int]
    """Height and width of the images."""

    def of(self, indices: np.ndarray) -> Mixing:
        """What is drawn for some of the images, int64 [B]."""
        return Mixing(self.blends[indices], self.boxes[indices], self.size)

    @property
    def shares(self) -> np.ndarray:
        """float64 [N]: the image's share of the label; its partner has the rest."""
        top, left, bottom, right = self.boxes.T
        area = (bottom - top) * (right - left) / (self.size[0] * self.size[1])
        return 1 - area * (1 - self.blends.astype(np.float64))

    def weights(self) -> np.ndarray:
        """float32 [N, 1, H, W]: the image's weight in each pixel."""
        rows, columns = (
            (np.arange(side) >= self.boxes[:, [axis]]) & (np.arange(side) < self.boxes[:, [axis + 2]])
            for axis, side in enumerate(self.size)
        )
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return np.where(inside, self.blends[:, None, None, None], np.float32(1))


@dataclass(frozen=True)
class Pairs:
    """The images of a step that a process reads."""

    rows: np.ndarray
    """int64 [R]: rows of the step; first the process's own, then partners that other processes have."""
    partners: np.ndarray
    """int64 [B]: position in `rows` of the partner of each own image."""


def probability(augment: cfg.Augment, epoch: int, epochs: int | None) -> float:
    """Probability that an image is mixed in an epoch of a run of `epochs`, if that number is known."""
    if not augment.mixes:
        return 0.0
    first, last = augment.mix_probability, augment.mix_last_probability
    if epochs is None:
        return first
    mixed = epochs - augment.mix_off_epochs
    if epoch >= mixed:
        return 0.0
    return first if last is None or mixed == 1 else first + (last - first) * epoch / (mixed - 1)


def draw(
    augment: cfg.Augment, seed: int, epoch: int, count: int, size: tuple[int, int], epochs: int | None = None
) -> Mixing:
    """How each of `count` images is mixed in an epoch of a run of `epochs`.

    Zhang et al., ICLR 2018; Yun et al., ICCV 2019.
    """
    generator = np.random.default_rng([seed, epoch, int(Purpose.mix)])
    happens, switch, down, right = generator.random((4, count))
    alphas = (augment.mixup, augment.cutmix)
    blends, cuts = (generator.beta(alpha, alpha, count) if alpha else np.ones(count) for alpha in alphas)
    is_cut = switch < augment.mix_switch if all(alphas) else np.full(count, bool(augment.cutmix))
    boxes = np.empty((count, 4), dtype=np.int64)
    for axis, (side, place) in enumerate(zip(size, (down, right), strict=True)):
        half = np.floor(side * np.sqrt(1 - cuts)).astype(np.int64) // 2
        centre = np.floor(side * place).astype(np.int64)
        boxes[:, axis] = np.where(is_cut, np.maximum(centre - half, 0), 0)
        boxes[:, axis + 2] = np.where(is_cut, np.minimum(centre + half, side), side)
    boxes[happens >= probability(augment, epoch, epochs)] = 0
    return Mixing(np.where(is_cut, 0, blends).astype(np.float32), boxes, size)


def pairs(size: int, rank: int, world: int) -> Pairs:
    """The partners in a step of `size` images for one of `world` processes, which has every world-th row."""
    own = np.arange(rank, size, world)
    others = (own + (DISTANCE if size > DISTANCE else 1)) % size
    rows = np.concatenate([own, np.setdiff1d(others, own)])
    order = np.argsort(rows)
    return Pairs(rows, order[np.searchsorted(rows, others, sorter=order)])


def targets(labels: np.ndarray, partners: np.ndarray, shares: np.ndarray, classes: int) -> np.ndarray:
    """float32 [B, classes]: the soft label of each mixed image.

    labels: int64 [R], or soft ones float32 [R, classes]; the first B are the images' own.
    """
    rows = np.arange(len(partners))
    if labels.ndim == 2:
        own = shares[:, None]
        return (own * labels[: len(partners)] + (1 - own) * labels[partners]).astype(np.float32)
    soft = np.zeros((len(partners), classes))
    soft[rows, labels[: len(partners)]] = shares
    soft[rows, labels[partners]] += 1 - shares
    return soft.astype(np.float32)
