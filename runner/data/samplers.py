"""Samplers: which images an epoch contains, in which order, and how they are batched.

A resumed epoch has the same order: `training.state.Progress` knows its batch, and `loaders` skips those before.
"""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from ..errors import ConfigError
from ..terminal import counted, word_for
from .augment.draws import Purpose, bits, stream


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch, int64 [size]: every image once, a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def order(sampler: cfg.Sampler, seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """The images of an epoch in order: int64 [N], a pure function of seed, epoch and labels, int64 [N] (with `shuffle`
    also uint8 [N, K]).

    If classes are balanced, the images of a class cycle through permutations across epochs: at the end of every epoch
    each of them was seen equally often, or once more.
    """
    if sampler is cfg.Sampler.shuffle:
        return epoch_order(seed, epoch, len(labels))
    counts = np.bincount(labels)
    # NumPy uses radix sort for small integer types, which takes a sixth of the time.
    by_class = np.argsort(labels.astype(np.min_scalar_type(len(counts) - 1)), kind="stable")
    chosen = by_class[_stretches(seed, counts, epoch * (quotas := quotas_of(sampler, counts)), quotas)]
    return chosen[epoch_order(seed, epoch, len(chosen))]


def quotas_of(sampler: cfg.Sampler, counts: np.ndarray) -> np.ndarray:
    """How many images of each class an epoch has, int64 [K], given `counts`; the total is unchanged.

    Rounding gives the remaining images to the classes with the largest remainders.
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
    """The augmentation keys of an epoch's images, int64 [N], so that repetitions of an image are augmented differently.

    The first occurrence uses its own index, the next one the index after it, modulo `size`.
    """
    ranks = np.arange(len(chosen))
    # Equals a stable `argsort`, in half of the time.
    order = np.sort(chosen * len(chosen) + ranks) % max(1, len(chosen))
    is_first = np.diff(chosen[order], prepend=-1) != 0
    number = np.empty_like(chosen)
    number[order] = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))
    return (chosen + number) % size


def _stretches(seed: int, counts: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A stretch of each class's endless sequence of permutations, all int64 [K]; returns int64 [Σ lengths].

    The result indexes images sorted by class. A permutation sorts random numbers that are a function of seed, class,
    permutation and position.
    """
    classes = np.flatnonzero(lengths)
    counts, begins, lengths, ends = counts[classes], begins[classes], lengths[classes], counts.cumsum()[classes]
    first, last = begins // counts, (begins + lengths - 1) // counts
    owners, numbers = _runs(last - first + 1)
    rows, places = _runs(counts[owners])
    streams = stream(seed % 2**64, int(Purpose.sampler), classes[owners], first[owners] + numbers)
    keys = bits(np.repeat(streams, counts[owners]), places)
    # Each key has the permutation, then random bits, then the position: all keys differ, so the order does not depend
    # on how a NumPy version sorts equal ones.
    above, below = (np.uint64(max(1, int(most).bit_length())) for most in (len(owners), counts.max()))
    keys = keys >> above >> below << below
    keys |= rows.astype(np.uint64) << (np.uint64(64) - above)
    keys |= places.astype(np.uint64)
    keys.sort()
    # Whole permutations were sorted; cut the stretch out of the first and the last one.
    whole = (last - first + 1) * counts
    _, places = _runs(lengths)
    keys = keys[np.repeat(whole.cumsum() - whole + begins - first * counts, lengths) + places]
    return (keys & ((np.uint64(1) << below) - np.uint64(1))).astype(np.int64) + np.repeat(ends - counts, lengths)


def _runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For consecutive runs of lengths int64 [R]: which run each element belongs to, and its position in it."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return owners, np.arange(len(owners)) - np.repeat(lengths.cumsum() - lengths, lengths)


def batch_bounds(size: int, batch_size: int, world: int) -> list[tuple[int, int]]:
    """(begin, end) of every global batch of an epoch of `size` images: ⌈size / batch_size⌉ for any number of processes.

    The last batch may be smaller; if it would have fewer images than there are processes, it takes the missing ones
    from the batches before. Errors: ConfigError if there are too few images for that.
    """
    if not size:
        return []
    begins = list(range(0, size, batch_size))
    end = size
    for number in reversed(range(len(begins))):
        end = begins[number] = min(begins[number], end - world)
    if begins[0] < 0:
        images, leave = counted(size, "image"), word_for(size, "leaves", "leave")
        raise ConfigError(
            f"data.batch_size={batch_size}: {images} in batches of that size {leave} one of {world} processes "
            "without an image. Use larger batches or fewer processes."
        )
    return list(zip(begins, [*begins[1:], size], strict=True))
