"""The one place where a config becomes a checked set of images with its three splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import config as cfg
from ..config.targets import load_target
from ..errors import DataError
from . import cifar, digits, folder, mnist, synthetic
from .splits import ImageFiles, Images, Source, Split, first_of_each_class, stratified_split


def load(config: cfg.Data) -> Source:
    """The images that the config chooses, limited and with a validation split where it asks for one.

    Errors: DataError for anything missing, damaged or mislabelled.
    """
    source = _read(config)
    for name, split in (("train", source.train), ("val", source.val), ("test", source.test)):
        if split is not None:
            _check(source, name, split, config.image_size)
        if isinstance(split, ImageFiles):
            split.max_pixels = config.max_pixels
    if source.val is None and config.val_fraction:
        kept, held_out = stratified_split(source.train.labels, config.val_fraction, config.split_seed)
        source = replace(source, train=source.train.select(kept), val=source.train.select(held_out))
    if config.limit:
        source = replace(
            source,
            train=_limited(source.train, config.limit),
            val=source.val and _limited(source.val, config.limit),
            test=_limited(source.test, config.limit),
        )
    return source


def _read(config: cfg.Data) -> Source:
    match config:
        case cfg.Digits():
            return digits.load(config)
        case cfg.Cifar10() | cfg.Cifar100():
            return cifar.load(config)
        case cfg.Mnist() | cfg.FashionMnist():
            return mnist.load(config)
        case cfg.ImageFolder():
            return folder.load(config)
        case cfg.Synthetic():
            return synthetic.load(config)
        case cfg.CustomData(target=target, kwargs=kwargs):
            source = load_target(target)(**kwargs)
            if not isinstance(source, Source):
                raise DataError(f"data.target={target} returned a {type(source).__name__}, not a runner.data.Source.")
            return source
    raise AssertionError(config)


def _limited(split: Split, limit: int) -> Split:
    return split.select(first_of_each_class(split.labels, limit))


def _check(source: Source, name: str, split: Split, image_size: int) -> None:
    """Refuse what a network would choke on, naming the first thing that is wrong."""
    where = f"The {name} split of '{source.name}'"
    if len(split) == 0:
        raise DataError(f"{where} has no images.")
    labels = split.labels
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(f"{where}: labels must be int64 [N], not {labels.dtype} {list(labels.shape)}.")
    bad = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if len(bad):
        raise DataError(
            f"{where}: the label of image {bad[0]} is {labels[bad[0]]}, but there are {len(source.classes)} classes, "
            f"so labels go from 0 to {len(source.classes) - 1}."
        )
    if isinstance(split, ImageFiles) and split.image_size != image_size:
        raise DataError(f"{where}: its images are {split.image_size} pixels wide: data.image_size={split.image_size}")
    if isinstance(split, Images):
        expected = [len(labels), image_size, image_size]
        images = split.images
        if images.dtype != np.uint8 or list(images.shape[:3]) != expected or images.shape[3:] not in ((1,), (3,)):
            raise DataError(
                f"{where}: images must be uint8 {[*expected, '1 or 3']}, not {images.dtype} {list(images.shape)}. "
                "Set data.image_size to their side, or scale them with runner.data.resize_all."
            )
