"""Prefetching: batches are on the device before they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

#: Batches that are prepared and copied while another one is computed.
AHEAD = 2


class _Stream(paddle.io.IterableDataset):
    """The loader's iterable. It keeps an error, which the loader would replace by one without a reason."""

    def __init__(self, batches: Iterable[tuple[np.ndarray, ...]]) -> None:
        self.batches = batches
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        try:
            yield from self.batches
        except Exception as error:
            self.error = error


def prefetched(batches: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """The same arrays as tensors on the device: a thread makes them, Paddle copies them on a separate stream.

    Errors: whatever making a batch raises, in its turn. Not verified on a GPU.
    """
    stream = _Stream(batches)
    loader = paddle.io.DataLoader(
        stream, batch_size=None, num_workers=0, return_list=True, use_buffer_reader=True, prefetch_factor=AHEAD
    )
    with iterated(loader) as iterator:
        for tensors in iterator:
            yield tuple(tensors)
    if stream.error is not None:
        raise stream.error


@contextlib.contextmanager
def iterated(loader: paddle.io.DataLoader) -> Iterator[Any]:
    """An iterator over a loader whose threads and processes end with the context.

    Paddle 3.3.1 draws their seed from NumPy's global generator, which a resumed epoch would advance once more; and it
    ends those of an abandoned iterator only when it is garbage-collected.
    """
    random_state = np.random.get_state()
    iterator = iter(loader)
    np.random.set_state(random_state)
    try:
        yield iterator
    finally:
        iterator._try_shutdown_all()
