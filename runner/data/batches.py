"""Batches of images: read, decoded or taken from memory, augmented, normalised and on the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import paddle
from paddle import Tensor

from .. import config as cfg
from .. import device
from ..kernels.pictures import resampler
from . import workers
from .augment.geometry import Crops, no_crop
from .cache import InMemory, OnDisk
from .prefetch import prefetched
from .splits import ImageFiles, Images, Split
from .transforms import Augmentation, Changes, Normalize, Program


def batches_of(
    split: Split,
    batches: list[np.ndarray],
    labels: np.ndarray,
    config: cfg.Data,
    normalize: Normalize,
    augmentation: Augmentation | None = None,
    changes: list[np.ndarray] | None = None,
) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    """(images, labels, indices) for every batch of indices, the first two on the device.

    `changes`: the keys of augmentation, if they are not the indices.
    """
    changes = batches if changes is None else changes
    crops = no_crop if augmentation is None else augmentation.crops(changes)
    read = _changed(_read(split, batches, config, crops), augmentation, changes)
    if device.is_cpu():
        for indices, images, places, drawn in read:
            yield normalize(images, places, drawn), paddle.to_tensor(labels[indices]), indices
        return
    changed = ((drawn.of(images[places]), labels[indices]) for indices, images, places, drawn in read)
    for indices, (pixels, own) in zip(batches, prefetched(changed), strict=True):
        yield normalize.pixels(pixels), own, indices


def _changed(
    read: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
    augmentation: Augmentation | None,
    changes: list[np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Changes | Program]]:
    """The result of `_read`, after the user's own augmentation, with what is drawn for each batch."""
    for drawn, (indices, images, places) in zip(changes, read, strict=True):
        if augmentation is None:
            yield indices, images, places, Changes()
        else:
            images, places = augmentation.prepare(images, places, drawn)
            yield indices, images, places, augmentation(drawn, images.shape[1:3])


def _read(
    split: Split, batches: list[np.ndarray], config: cfg.Data, crops: Crops
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(indices, images uint8 [T, H, W, C], their positions in them) for every batch of indices."""
    match split:
        case Images(images=images):
            for indices in batches:
                yield indices, images, indices
        case ImageFiles(cache=InMemory() as kept) if kept.has_all(len(split)):
            for indices in batches:
                yield indices, kept.pictures, indices
        case ImageFiles():
            # Compile and load before forking.
            split.resample = resampler()
            count = config.workers if isinstance(config, cfg.Pictures) else 0
            if isinstance(split.cache, OnDisk) and split.cache.has_all(len(split)):
                # Starting processes and sharing what they read would take longer than reading.
                for batch, following in zip(_decoded(split, batches, crops), [*batches[1:], np.empty(0)], strict=True):
                    split.cache.announce(following)
                    yield batch
            else:
                read = workers.decoded(split, batches, count, crops) if count else _decoded(split, batches, crops)
                yield from read


def _decoded(
    split: ImageFiles, batches: list[np.ndarray], crops: Crops
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same, one image after the other; a batch is valid until the next."""
    pictures = np.empty((max(map(len, batches), default=0), *split.shape), np.uint8)
    positions = itertools.count()
    for indices in batches:
        for place, index in enumerate(indices):
            pictures[place] = split.decode(index, crops(next(positions)))
        yield indices, pictures, np.arange(len(indices))
