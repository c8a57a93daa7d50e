"""Loading the data set that a config chooses: checked, limited and with its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import config as cfg
from ..config.targets import load_target
from ..errors import DataError
from ..images import Preparation, to_grey
from ..terminal import counted, word_for
from . import cifar, digits, folder, lists, matching, mnist, shards, soft, synthetic
from .folds import with_test, with_validation
from .labels import first_of_each_class
from .matching import ClassMismatch, ExpectedClasses
from .splits import ImageFiles, Source, Split


def load(config: cfg.Data, expected: ExpectedClasses | None = None, divide: bool = True) -> Source:
    """The images that the config chooses, limited and with a validation split if it asks for one.

    Labels follow the order of the classes that weights know, if those are given; if images may lack some of them, there
    need not be training images. With `divide` false, a set without splits is returned as `test`. Errors: DataError for
    anything missing, damaged or mislabelled, and for other classes.
    """
    trained_classes = expected.names if expected and expected.mismatch is ClassMismatch.subset else []
    source = _read(config, trained_classes)
    if not len(source.train) and not trained_classes:
        raise DataError(f"The train split of '{source.name}' has no images.")
    if config.many:
        source = _with_many(source)
    if config.labels is cfg.Labels.soft:
        source = soft.divided(source)
    for name, split in source.splits.items():
        _check(source, name, split, config)
        _fit(source, name, split, config)
    if expected:
        source = matching.match(source, expected)
    # After labels have their final order, on which the split depends: it is then the same in training and later.
    if not divide and source.is_undivided:
        source = replace(source, test=source.train, train=source.train.select(np.zeros(0, np.int64)))
    elif divide and isinstance(config, cfg.Pictures) and not (trained_classes and source.test is not None):
        source = with_test(source, config.test_fraction, config.split_seed)
    if divide and len(source.train) and not (trained_classes and source.val is not None):
        source = with_validation(source, config.val_fraction, config.folds, config.fold, config.split_seed)
    if config.limit:
        source = replace(
            source,
            train=_limited(source.train, config.limit),
            val=source.val and _limited(source.val, config.limit),
            test=source.test and _limited(source.test, config.limit),
        )
    return source


def refuse_missing(config: cfg.Data, trained_classes: Sequence[str] = ()) -> None:
    """Refuse a set if folders and file names already show that `load` would refuse it.

    `trained_classes` are the classes of networks that are only evaluated. Errors: DataError.
    """
    match config:
        case cfg.ImageFolder():
            folder.refuse_missing(config, trained_classes)
        case cfg.FileList():
            lists.refuse_missing(config)
        case cfg.Shards():
            shards.refuse_missing(config)
        case cfg.Cifar10() | cfg.Cifar100() if not config.download:
            cifar.require(config)
        case cfg.Mnist() | cfg.FashionMnist() if not config.download:
            mnist.require(config, may_download=False)


def _read(config: cfg.Data, trained_classes: Sequence[str]) -> Source:
    match config:
        case cfg.Digits():
            return digits.load(config)
        case cfg.Cifar10() | cfg.Cifar100():
            return cifar.load(config)
        case cfg.Mnist() | cfg.FashionMnist():
            return mnist.load(config)
        case cfg.ImageFolder():
            return folder.load(config, trained_classes)
        case cfg.FileList():
            return lists.load(config, trained_classes)
        case cfg.Shards():
            return shards.load(config, trained_classes)
        case cfg.Synthetic():
            return synthetic.load(config)
        case cfg.CustomData(target=target, kwargs=kwargs):
            source = load_target(target)(**kwargs)
            if not isinstance(source, Source):
                raise DataError(f"data.target={target} returned a {type(source).__name__}, not a runner.data.Source.")
            return source
    raise AssertionError(config)


def preparation(config: cfg.Data) -> Preparation:
    """How images are preprocessed into the network's input."""
    (height, width), (red, green, blue) = config.size, config.background
    return Preparation(
        height, width, config.channels, config.resize.value, config.crop_ratio, (red, green, blue), config.max_pixels
    )


def _limited(split: Split, limit: int) -> Split:
    return split.select(first_of_each_class(split.labels, limit))


def _with_many(source: Source) -> Source:
    """The same set with single labels as multi-labels: uint8 [N, K]."""
    several = replace(source)
    for name, split in source.splits.items():
        if split.labels.ndim == 1 and split.labels.dtype == np.int64:
            _check_range(source, name, split.labels)
            rows = np.zeros((len(split), len(source.classes)), np.uint8)
            rows[np.arange(len(split)), split.labels] = 1
            setattr(several, name, replace(split, labels=rows))
    return several


def _check(source: Source, name: str, split: Split, config: cfg.Data) -> None:
    """Refuse labels that would fail later, naming the first problem."""
    where = f"The {name} split of '{source.name}'"
    if len(split) == 0:
        raise DataError(f"{where} has no images.")
    labels, groups = split.labels, split.groups
    if groups is not None and (groups.dtype != np.int64 or groups.shape != (len(split),)):
        raise DataError(f"{where}: groups must be int64 [{len(split)}], not {groups.dtype} {list(groups.shape)}.")
    if config.many:
        if labels.dtype != np.uint8 or labels.shape != (len(split), len(source.classes)) or labels.max(initial=0) > 1:
            raise DataError(
                f"{where}: labels must be uint8 {[len(split), len(source.classes)]} of 0 and 1, an image a row and a "
                f"class a column, not {labels.dtype} {list(labels.shape)}."
            )
        return
    if labels.ndim == 2 and labels.dtype == np.uint8:
        separator = config.label_separator if isinstance(config, cfg.FileList) and not config.label_columns else None
        of_names = f". If '{separator}' is part of a name: data.label_separator=null" if separator else ""
        raise DataError(
            f"{where}: its images have several labels each, of {labels.shape[1]} classes. To train on all of them: "
            f"data.labels=many loss=bce{of_names}"
        )
    if labels.dtype != np.int64 or labels.ndim != 1:
        remedy = " Probabilities of classes are data.labels=soft." if labels.ndim == 2 else ""
        raise DataError(f"{where}: labels must be int64 [N], not {labels.dtype} {list(labels.shape)}.{remedy}")
    _check_range(source, name, labels)


def _check_range(source: Source, name: str, labels: np.ndarray) -> None:
    where = f"The {name} split of '{source.name}'"
    bad = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
    if len(bad):
        count = len(source.classes)
        be, classes = word_for(count, "is", "are"), counted(count, "class", "classes")
        raise DataError(
            f"{where}: the label of image {bad[0]} is {labels[bad[0]]}, but there {be} {classes}, "
            f"so labels go from 0 to {count - 1}."
        )


def _fit(source: Source, name: str, split: Split, config: cfg.Data) -> None:
    """Attach the preprocessing to image files; check the shape of arrays. Errors: DataError if it does not fit."""
    if isinstance(split, ImageFiles):
        split.preparation = preparation(config)
        return
    images, expected = split.images, [len(split.labels), *config.size]
    if config.channels == 1 and images.shape[3:] == (3,) and images.dtype == np.uint8:
        split.images = images = to_grey(images)
    fits = images.ndim == 4 and list(images.shape[:3]) == expected and images.shape[3] in (1, config.channels)
    if images.dtype != np.uint8 or not fits:
        channels = "1" if config.channels == 1 else f"1 or {config.channels}"
        raise DataError(
            f"The {name} split of '{source.name}': images must be uint8 {[*expected, channels]}, not {images.dtype} "
            f"{list(images.shape)}. Set data.image_size to their height and width and data.channels to their channels, "
            "or scale them with runner.data.resize_all."
        )
