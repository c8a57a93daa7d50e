"""Processes that decode images beside training, and how what they decoded reaches it."""

from __future__ import annotations

import enum
import functools
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator

import numpy as np
import paddle

from .. import config as cfg
from ..processes import die_with_parent
from .prefetch import iterated
from .splits import ImageFiles

#: Where Paddle keeps what processes share. A write beyond its size kills the process that writes.
SHARED_MEMORY = "/dev/shm"


class Way(enum.Enum):
    """How images reach the training process."""

    shared = "through memory that is shared"
    sent = "through pipes"
    alone = "it decodes them itself"


def way(config: cfg.Pictures) -> Way:
    """What this machine, or container, has room for; it stays the same while the process lives."""
    return _way(_bytes(config)) if config.workers else Way.alone


def note(config: cfg.Pictures) -> str:
    """What a person should know about that; empty where all is as the config says."""
    if not config.workers or (chosen := way(config)) is Way.shared:
        return ""
    return (
        f"images are slower to come: data.workers={config.workers} want {_bytes(config) >> 20} MB of {SHARED_MEMORY}, "
        f"where there is less, so they reach training otherwise ({chosen.value}). Docker: --shm-size=1g"
    )


def _bytes(config: cfg.Pictures) -> int:
    """What the batches of training and of an evaluation in between take: two a worker wait, and one is in use."""
    images = config.batch_size + config.eval_batch_size
    return (2 * config.workers + 2) * images * math.prod(config.input_shape)


@functools.cache
def _way(wanted: int) -> Way:
    try:
        multiprocessing.Lock()
    except (OSError, ImportError):
        return Way.alone
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return Way.sent
    return Way.shared if wanted <= free else Way.sent


class _Files(paddle.io.Dataset):
    """What a worker process does with an index."""

    def __init__(self, split: ImageFiles) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        try:
            return self.split.decode(index), np.int64(index)
        except Exception:
            # A worker's exception arrives as text with a traceback: the main process decodes the file again and raises.
            assert self.split.preparation is not None
            shape = (*self.split.preparation.size, self.split.preparation.channels)
            return np.zeros(shape, dtype=np.uint8), np.int64(-1 - index)


def _start_worker(parent: int, _number: int) -> None:
    # A signal to the process group is the trainer's to answer.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


def decoded(
    split: ImageFiles, batches: list[np.ndarray], config: cfg.Pictures
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(indices, images uint8 [n, H, W, C]) of every batch of indices."""
    if not batches:
        return
    loader = paddle.io.DataLoader(
        _Files(split),
        batch_sampler=[list(map(int, batch)) for batch in batches],
        num_workers=min(config.workers, len(batches)),
        use_shared_memory=way(config) is Way.shared,
        # What is decoded is changed before it goes to the device.
        places=[paddle.CPUPlace()],
        use_buffer_reader=False,
        worker_init_fn=functools.partial(_start_worker, os.getpid()),
        return_list=True,
    )
    with iterated(loader) as iterator:
        for images, indices in iterator:
            places, decoded = indices.numpy(), images.numpy()
            for row in np.flatnonzero(places < 0):
                places[row] = -1 - places[row]
                decoded[row] = split.decode(places[row])
            yield places, decoded
