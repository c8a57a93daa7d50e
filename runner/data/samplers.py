"""Which images a batch holds."""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from ..errors import ConfigError
from .augment.draws import Purpose, bits, stream


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
    # Of small numbers NumPy sorts by their digits, in a sixth of the time.
    by_class = np.argsort(labels.astype(np.min_scalar_type(len(counts) - 1)), kind="stable")
    chosen = by_class[_stretches(seed, counts, epoch * (quotas := quotas_of(sampler, counts)), quotas)]
    return chosen[epoch_order(seed, epoch, len(chosen))]


def quotas_of(sampler: cfg.Sampler, counts: np.ndarray) -> np.ndarray:
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
    ranks = np.arange(len(chosen))
    # As a stable `argsort`, in half of the time.
    order = np.sort(chosen * len(chosen) + ranks) % max(1, len(chosen))
    is_first = np.diff(chosen[order], prepend=-1) != 0
    number = np.empty_like(chosen)
    number[order] = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))
    return (chosen + number) % size


def _stretches(seed: int, counts: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Part of an endless sequence of permutations of each class's images, all int64 [K]; returns int64 [Σ lengths].

    What it counts are images in the order of their classes. A permutation is that of random numbers when they are
    sorted, which are a function of seed, class, permutation and place.
    """
    classes = np.flatnonzero(lengths)
    counts, begins, lengths, ends = counts[classes], begins[classes], lengths[classes], counts.cumsum()[classes]
    first, last = begins // counts, (begins + lengths - 1) // counts
    owners, numbers = _runs(last - first + 1)
    rows, places = _runs(counts[owners])
    streams = stream(seed % 2**64, int(Purpose.sampler), classes[owners], first[owners] + numbers)
    keys = bits(np.repeat(streams, counts[owners]), places)
    # One number has the permutation, the random bits that are left beside it, and the place in it. So no two are
    # equal, which versions of NumPy might sort in different ways.
    above, below = (np.uint64(max(1, int(most).bit_length())) for most in (len(owners), counts.max()))
    keys = keys >> above >> below << below
    keys |= rows.astype(np.uint64) << (np.uint64(64) - above)
    keys |= places.astype(np.uint64)
    keys.sort()
    # Whole permutations were sorted, of which the first and the last may be seen in part.
    whole = (last - first + 1) * counts
    _, places = _runs(lengths)
    keys = keys[np.repeat(whole.cumsum() - whole + begins - first * counts, lengths) + places]
    return (keys & ((np.uint64(1) << below) - np.uint64(1))).astype(np.int64) + np.repeat(ends - counts, lengths)


def _runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of runs that follow each other, int64 [R], which one each element belongs to, and its place in it."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return owners, np.arange(len(owners)) - np.repeat(lengths.cumsum() - lengths, lengths)


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
