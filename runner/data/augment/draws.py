"""Random numbers for single images: functions of (seed, epoch, image), independent of the order of draws."""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass

import numpy as np

#: 2⁶⁴ divided by the golden ratio, the increment of SplitMix64 (Steele, Lea and Flood, 2014).
STEP = 0x9E3779B97F4A7C15
#: Attempts to draw a rectangle that fits, as in torchvision.
ATTEMPTS = 10


class Purpose(enum.IntEnum):
    """What random numbers are for. Each purpose has its own stream, independent of what else is on, except that padded
    crops, flips and cutout share one generator (`transforms`), as Mixup and CutMix do. New ones go to the end."""

    crop = 1
    flip_vertical = 2
    affine = 3
    jitter = 4
    single = 5
    policy = 6
    erasing = 7
    custom = 8
    mix = 9
    sampler = 10


@dataclass(frozen=True)
class Draws:
    """The random numbers of some images in an epoch."""

    seed: int
    epoch: int
    indices: np.ndarray
    """int64 [B]: indices of the images in the split."""

    def uniform(self, purpose: Purpose, count: int) -> np.ndarray:
        """float64 [B, count], in [0, 1)."""
        state = stream(self.seed % 2**64, self.epoch, int(purpose))
        streams = bits(state, self.indices)
        return (bits(streams[:, None], np.arange(1, count + 1)) >> np.uint64(11)) * 2.0**-53

    def generator(self, row: int) -> np.random.Generator:
        """A generator for the user-defined augmentation of the `row`-th of these images."""
        return np.random.default_rng([self.seed, self.epoch, int(self.indices[row]), int(Purpose.custom)])


def stream(*numbers: int | np.ndarray) -> np.ndarray:
    """The start of a random stream identified by numbers: uint64, of the shape of those that are arrays, else [1]."""
    state = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for number in numbers:
            state = _scramble(state + np.asarray(number).astype(np.uint64) + np.uint64(STEP))
    return state


def bits(streams: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Random bits at positions in streams; int64 and uint64 that broadcast: uint64."""
    with np.errstate(over="ignore"):
        return _scramble(streams + places.astype(np.uint64) * np.uint64(STEP))


def _scramble(numbers: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64: uint64 to uint64, one to one."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def whole(uniform: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Map numbers in [0, 1) to int64 in 0…count - 1."""
    return np.minimum(np.floor(uniform * count), np.asarray(count) - 1).astype(np.int64)


def orders(uniform: np.ndarray, count: int) -> np.ndarray:
    """int64 [B, count]: a permutation of 0…count - 1 for each of [B] numbers."""
    every = np.array(list(itertools.permutations(range(count))))
    return every[whole(uniform, len(every))]


def rectangles(
    uniform: np.ndarray, height: int, width: int, scale: list[float], ratio: list[float], is_smaller: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Random rectangles with a fraction of the area, as torchvision's RandomResizedCrop and RandomErasing draw them.

    uniform: float64 [B, 2 · ATTEMPTS + 2]. `ratio` is width by height; its logarithm is uniform. `is_smaller`: both
    sides have to be smaller than the image's, not just fit. Returns int64 [B, 4], (top, left, height, width), and bool
    [B], whether any attempt fitted; rectangles that did not fit are 0.
    """
    areas = height * width * between(uniform[:, :ATTEMPTS], *scale)
    ratios = np.exp(between(uniform[:, ATTEMPTS : 2 * ATTEMPTS], *np.log(ratio)))
    heights, widths = np.round(np.sqrt(areas / ratios)), np.round(np.sqrt(areas * ratios))
    most = (height - is_smaller, width - is_smaller)
    fits = (heights >= 1) & (widths >= 1) & (heights <= most[0]) & (widths <= most[1])
    rows, fitted = np.arange(len(fits)), fits.any(axis=1)
    first = fits.argmax(axis=1)
    heights, widths = (np.where(fitted, sides[rows, first], 0).astype(np.int64) for sides in (heights, widths))
    top, left = whole(uniform[:, -2], height - heights + 1), whole(uniform[:, -1], width - widths + 1)
    return np.stack([top, left, heights, widths], axis=1) * fitted[:, None], fitted
