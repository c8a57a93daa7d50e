"""Logits of teachers that are computed once, before training, and looked up in its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle

from ..data import EvalLoader
from ..models import Networks, Output
from ..parallel import Ranks
from .evaluation import untouched
from .precision import Precision

#: Numbers that processes exchange at a time.
EXCHANGED = 1 << 22


@dataclass
class Precomputed:
    """The logits of teachers for training images as an evaluation prepares them."""

    images: np.ndarray
    """int64 [N], ascending: indices of the images in the training split."""
    logits: dict[str, np.ndarray]
    """Teacher → float32 [N, classes]."""

    def outputs(self, indices: np.ndarray) -> dict[str, Output]:
        """What the teachers answer for some of these images; indices: int64 [n], those of a `Batch`."""
        rows = np.searchsorted(self.images, indices)
        return {name: Output(paddle.to_tensor(logits[rows]), {}) for name, logits in self.logits.items()}


def compute(
    networks: Networks,
    loader: EvalLoader,
    images: np.ndarray,
    classes: int,
    precision: Precision,
    ranks: Ranks,
    tell: Callable[[int, int], None],
) -> Precomputed:
    """The logits of all frozen networks: every process computes its part of each batch, and all receive the whole.

    `loader` has the images with these indices (`Precomputed.images`), in this order. Every process calls `tell` with
    (images done, all images) after every batch.
    """
    teachers = [name for name in networks if name not in networks.trained]
    logits = {name: np.zeros((len(images), classes), np.float32) for name in teachers}
    batches, size = iter(loader), loader.config.eval_batch_size
    with untouched(networks):
        for begin in range(0, len(images), size):
            # A process may have no image of the last batch.
            if batch := next(batches, None):
                for name, own in logits.items():
                    with precision.autocast():
                        answers = networks[name](batch.images)
                    own[batch.indices] = answers.astype("float32").numpy()
            tell(min(begin + size, len(images)), len(images))
    # One process may be much later than another.
    ranks.barrier_without_timeout()
    for own in logits.values():
        _exchange(own, ranks)
    return Precomputed(images, logits)


def _exchange(logits: np.ndarray, ranks: Ranks) -> None:
    """Fill in the rows of the other processes, in place; so far they are 0. logits: float32 [N, classes]."""
    if ranks.world_size == 1:
        return
    rows = max(1, EXCHANGED // logits.shape[1])
    for begin in range(0, len(logits), rows):
        part = logits[begin : begin + rows]
        part[:] = ranks.all_reduce_sum(paddle.to_tensor(part)).numpy()
