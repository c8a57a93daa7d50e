"""Batches on the device before they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import paddle
from paddle import Tensor

#: Batches that are made and copied while another one is computed.
AHEAD = 2


class _Stream(paddle.io.IterableDataset):
    """What a thread of the loader reads. It keeps an error, which the loader would turn into one without a reason."""

    def __init__(self, batches: Iterable[tuple[np.ndarray, ...]]) -> None:
        self.batches = batches
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        try:
            yield from self.batches
        except Exception as error:
            self.error = error


def ahead(batches: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """The same arrays as tensors on the device: a thread makes them, Paddle copies them on a stream of its own.

    Errors: whatever making them raises, in its turn. Not verified on a GPU.
    """
    stream = _Stream(batches)
    loader = paddle.io.DataLoader(
        stream, batch_size=None, num_workers=0, return_list=True, use_buffer_reader=True, prefetch_factor=AHEAD
    )
    # Paddle 3.3.1 draws a seed for workers from NumPy's global generator; a resumed epoch would draw it once more.
    random_state = np.random.get_state()
    iterator = iter(loader)
    np.random.set_state(random_state)
    try:
        for tensors in iterator:
            yield tuple(tensors)
    finally:
        # An epoch may be left in its middle; its thread would wait for a place in the queue.
        iterator._try_shutdown_all()
    if stream.error is not None:
        raise stream.error
