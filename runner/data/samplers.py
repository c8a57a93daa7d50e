"""Which images a batch holds."""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from ..errors import ConfigError


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch, int64 [size]: every image once, a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def order(sampler: cfg.Sampler, seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Which images an epoch has, in their order: int64 [N], a pure function of seed, epoch and labels, int64 [N].

    Where classes are drawn, the images of one follow each other over the epochs as if it was shuffled again and again:
    at any time each of them was seen equally often, or once more.
    """
    if sampler is cfg.Sampler.shuffle:
        return epoch_order(seed, epoch, len(labels))
    counts = np.bincount(labels)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    chosen = np.concatenate(
        [
            images[_stretch(seed, label, len(images), epoch * quota, quota)]
            for label, (images, quota) in enumerate(zip(by_class, drawn(sampler, counts).tolist(), strict=True))
            if quota
        ]
    )
    return chosen[epoch_order(seed, epoch, len(chosen))]


def drawn(sampler: cfg.Sampler, counts: np.ndarray) -> np.ndarray:
    """How many images of each class an epoch has, int64 [K], of `counts` that there are; as many in all.

    Images that cannot be divided go to the classes with the largest remainders.
    """
    match sampler:
        case _ if sampler is cfg.Sampler.shuffle or not counts.sum():
            return counts
        case cfg.Sampler.balanced:
            parts = (counts > 0).astype(np.float64)
        case cfg.Sampler.sqrt:
            parts = np.sqrt(counts)
    shares = parts * (counts.sum() / parts.sum())
    quotas = np.floor(shares).astype(np.int64)
    most = np.argsort(quotas - shares, kind="stable")[: counts.sum() - quotas.sum()]
    quotas[most] += 1
    return quotas


def copies(chosen: np.ndarray, size: int) -> np.ndarray:
    """What random changes of an epoch's images go by, int64 [N]: other ones for each copy of an image, of `size`.

    The first copy has its own changes, the next one those of the image behind it.
    """
    order = np.argsort(chosen, kind="stable")
    ranks = np.arange(len(chosen))
    is_first = np.diff(chosen[order], prepend=-1) != 0
    number = np.empty_like(chosen)
    number[order] = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))
    return (chosen + number) % size


def _stretch(seed: int, label: int, size: int, begin: int, length: int) -> np.ndarray:
    """Part of an endless sequence of permutations of `size` images: int64 [length]."""
    first, last = begin // size, (begin + length - 1) // size
    # The third number keeps these draws apart from those of order and augmentation.
    permutations = [
        np.random.default_rng([seed, number, 11, label]).permutation(size) for number in range(first, last + 1)
    ]
    return np.concatenate(permutations)[begin - first * size :][:length]


def batch_bounds(size: int, batch_size: int, world: int) -> list[tuple[int, int]]:
    """(begin, end) of every global batch of an epoch of `size` images: ⌈size / batch_size⌉ for any number of processes.

    The last batch may be smaller. Where it would have fewer images than there are processes it takes the missing ones
    from the batches before. Errors: ConfigError where there are too few images for that.
    """
    if not size:
        return []
    begins = list(range(0, size, batch_size))
    end = size
    for number in reversed(range(len(begins))):
        end = begins[number] = min(begins[number], end - world)
    if begins[0] < 0:
        raise ConfigError(
            f"data.batch_size={batch_size}: {size} images in batches of that size leave one of {world} processes "
            "without an image. Use larger batches or fewer processes."
        )
    return list(zip(begins, [*begins[1:], size], strict=True))
