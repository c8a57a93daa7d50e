"""Labelled splits: arrays in memory, or encoded images."""

from __future__ import annotations

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import DataError
from ..files.digests import digest_of
from ..images import Crop, Preparation, decode
from ..images.resampling import Resample, resample
from .names import Names


@dataclass
class Images:
    """A split whose images are in memory."""

    images: np.ndarray
    """uint8 [N, H, W, C]."""
    labels: np.ndarray
    """int64 [N], or multi-label: uint8 [N, K] of 0 and 1."""
    groups: np.ndarray | None = None
    """int64 [N]: images of one group (such as a patient) stay together when some are held out."""
    soft: np.ndarray | None = None
    """float32 [N, K]: soft labels, rows that sum to 1; `labels` are their most probable classes."""

    def __post_init__(self) -> None:
        self.images = np.ascontiguousarray(self.images)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> Images:
        """The images at these indices."""
        groups, soft = _selected(self.groups, indices), _selected(self.soft, indices)
        return Images(self.images[indices], self.labels[indices], groups, soft)

    def name(self, index: int) -> str:
        """The name of an image in messages and reports."""
        return f"image {index}"


class Cache(Protocol):
    """A cache of decoded images, uint8 [H, W, C]."""

    def read(self, index: int) -> np.ndarray | None:
        """The image, if it is cached."""

    def write(self, index: int, picture: np.ndarray) -> None:
        """Cache an image, if there is room."""


class Pictures(Protocol):
    """Encoded images that are read one by one."""

    def __len__(self) -> int: ...

    def select(self, indices: np.ndarray) -> Pictures:
        """The images at these indices."""

    def name(self, index: int) -> str:
        """The name of an image in messages and reports."""

    def read(self, index: int) -> str | bytes:
        """The path of an image's file, or its content. Errors: OSError, DataError."""

    def sizes(self) -> np.ndarray:
        """Bytes of each image, int64 [N]; -1 if it does not exist."""

    def state(self) -> str:
        """A digest of the images' names, sizes and modification times."""


@dataclass
class FilesOnDisk:
    """Images in files of their own."""

    root: str
    """Folder that the names are relative to."""
    names: Names
    known_stats: np.ndarray | None = field(default=None, repr=False, compare=False)
    """The cached result of `stats`."""

    def __len__(self) -> int:
        return len(self.names)

    def select(self, indices: np.ndarray) -> FilesOnDisk:
        """The images at these indices."""
        known_stats = None if self.known_stats is None else self.known_stats[indices]
        return replace(self, names=self.names.select(indices), known_stats=known_stats)

    def name(self, index: int) -> str:
        """The path of an image relative to the root."""
        return self.names[index]

    def read(self, index: int) -> str:
        """The path of an image."""
        return os.path.join(self.root, self.names[index])

    def sizes(self) -> np.ndarray:
        """Bytes of each file, int64 [N]; -1 if it does not exist."""
        return self.stats()[:, 0]

    def state(self) -> str:
        """A digest of the images' names, sizes and modification times."""
        return digest_of([self.names.text, self.names.ends, self.stats()])

    def stats(self) -> np.ndarray:
        """Size in bytes and modification time in nanoseconds of each file, int64 [N, 2]; -1 for missing files.

        The files are queried once; selections made later reuse the result.
        """
        if self.known_stats is None:
            numbers = itertools.chain.from_iterable(map(_size_and_time, self.paths()))
            self.known_stats = np.fromiter(numbers, np.int64, 2 * len(self)).reshape(-1, 2)
        return self.known_stats

    def paths(self, indices: np.ndarray | slice = slice(None)) -> Iterator[bytes]:
        """The paths of all files, or of those at these indices."""
        root = os.fsencode(os.path.join(self.root, ""))
        return (name if name.startswith(b"/") else root + name for name in self.names.encoded(indices))


def _size_and_time(path: bytes) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, -1)


@dataclass
class ImageFiles:
    """A split of encoded images, decoded when a batch is read. `pictures` may also be a list of paths."""

    pictures: Pictures | Sequence[str | Path]
    labels: np.ndarray
    """int64 [N], or multi-label: uint8 [N, K] of 0 and 1."""
    preparation: Preparation | None = None
    """How an image is preprocessed into the network's input; set from the config."""
    cache: Cache | None = None
    """Cache of decoded images."""
    resample: Resample = resample
    """The function that resizes images; every implementation gives the same result."""
    groups: np.ndarray | None = None
    """int64 [N]: images of one group (such as a patient) stay together when some are held out."""
    soft: np.ndarray | None = None
    """float32 [N, K]: soft labels, rows that sum to 1; `labels` are their most probable classes."""

    def __post_init__(self) -> None:
        if isinstance(self.pictures, Sequence):
            self.pictures = FilesOnDisk("", Names.of(map(str, self.pictures)))

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> ImageFiles:
        """The images at these indices."""
        groups, soft = _selected(self.groups, indices), _selected(self.soft, indices)
        return replace(
            self, pictures=self.encoded.select(indices), labels=self.labels[indices], groups=groups, soft=soft,
            cache=None,
        )  # fmt: skip

    def name(self, index: int) -> str:
        """The name of an image in messages and reports."""
        return self.encoded.name(index)

    def names(self) -> Iterator[str]:
        """The names of all images."""
        pictures = self.encoded
        return iter(pictures.names) if isinstance(pictures, FilesOnDisk) else map(pictures.name, range(len(pictures)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, W, C] of a decoded image."""
        assert self.preparation is not None, "sources.load sets it"
        return *self.preparation.size, self.preparation.channels

    def decode(self, index: int, crop: Crop | None = None) -> np.ndarray:
        """One image, or a crop of it, which is not cached: uint8 [H, W, C]. Errors: DataError naming it."""
        cache = self.cache if crop is None else None
        picture = cache.read(index) if cache else None
        if picture is None:
            picture = self._decode(index, crop)
            if cache:
                cache.write(index, picture)
        return picture

    def _decode(self, index: int, crop: Crop | None) -> np.ndarray:
        assert self.preparation is not None, "sources.load sets it"
        try:
            picture = self.encoded.read(index)
            name = self.name(index) if isinstance(picture, bytes) else None
            return decode(picture, self.preparation, name, resample=self.resample, crop=crop)
        except OSError as error:
            raise DataError(f"{self.name(index)} cannot be read: {error.strerror or error}.") from error

    @property
    def encoded(self) -> Pictures:
        """The source of the encoded images."""
        assert not isinstance(self.pictures, Sequence), "made into pictures above"
        return self.pictures


Split = Images | ImageFiles


def _selected(values: np.ndarray | None, indices: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[indices]


def picture(split: Split, index: int) -> np.ndarray:
    """A preprocessed image of a split without augmentation: uint8 [H, W, C]. Errors: DataError naming it."""
    return split.images[index] if isinstance(split, Images) else split.decode(index)


@dataclass
class Source:
    """A labelled data set. Errors: DataError for classes that are not a list of different names."""

    name: str
    classes: list[str]
    """Names of the classes; a label is an index into them."""
    train: Split
    """Empty if there are only images to evaluate on."""
    test: Split | None = None
    val: Split | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    """Why files were skipped → how many."""
    skipped_paths: dict[str, list[str]] = field(default_factory=dict)
    """Why files were skipped → the first of them."""
    is_undivided: bool = False
    """Whether the set has no splits of its own: a test split is then held out."""
    layout: str = ""
    """What was taken as classes, where that is not obvious."""
    own_order: list[str] = field(default_factory=list)
    """The classes in the set's own order, which is what positions in the config mean; `classes` may have been given the
    order of weights."""

    def __post_init__(self) -> None:
        what = f"The classes of '{self.name}'"
        if not isinstance(self.classes, list) or not self.classes:
            raise DataError(f"{what} are {self.classes!r}, and must be a list of their names in the order of labels.")
        for label, name in enumerate(self.classes):
            if not isinstance(name, str) or not name.strip():
                raise DataError(f"{what} must be names: that of label {label} is {name!r}.")
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name, count in Counter(self.classes).items() if count > 1)
            raise DataError(f"{what} have '{twice}' twice, and labels are told apart by them. Name each class once.")
        self.own_order = self.own_order or self.classes

    @property
    def splits(self) -> dict[str, Split]:
        """Those of `train`, `val` and `test` that exist."""
        every = {"train": self.train if len(self.train) else None, "val": self.val, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}
