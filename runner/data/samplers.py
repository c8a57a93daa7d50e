"""Which images a batch holds."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch, int64 [size]: every image once, a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def batch_bounds(size: int, batch_size: int, world: int) -> list[tuple[int, int]]:
    """(begin, end) of every global batch of an epoch of `size` images: ⌈size / batch_size⌉ for any number of processes.

    The last batch may be smaller. Where it would have fewer images than there are processes it takes the missing ones
    from the batches before. Errors: ConfigError where there are too few images for that.
    """
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
