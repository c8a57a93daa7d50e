"""Which images a batch holds."""

from __future__ import annotations

import numpy as np


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch, int64 [size]: every image once, a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def batch_bounds(size: int, batch_size: int, world: int) -> list[tuple[int, int]]:
    """(begin, end) of every global batch of an epoch of `size` images.

    The last batch may be smaller. Where it would have fewer images than there are processes it joins the one before,
    so that no process is without an image.
    """
    begins = list(range(0, size, batch_size))
    if len(begins) > 1 and size - begins[-1] < world:
        begins.pop()
    return list(zip(begins, [*begins[1:], size], strict=True))
