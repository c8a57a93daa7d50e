"""Data sets in shards, tar archives or Parquet files, whose images are read in place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from .. import config as cfg
from ..errors import DataError
from ..files.digests import digest_of
from . import archive, classes, label_texts, parquet, shard_index, storage, tables
from .classes import BETWEEN, NAMED, Problems
from .names import Names
from .scanning import HIDDEN
from .shard_index import Index
from .splits import ImageFiles, Source

Part = TypeVar("Part")
#: A reason to skip a member of an archive.
NO_FILES = "links and other members of archives that are not files"
SUFFIXES = archive.SUFFIXES + parquet.SUFFIXES


@dataclass
class Members:
    """Images in shards; processes that read them share nothing but the files."""

    shards: list[str]
    """Paths of the shards, or their URLs."""
    image_column: str
    """Parquet: the column that has the images."""
    numbers: np.ndarray
    """int32 [N]: the shard that each image is in."""
    places: np.ndarray
    """int64 [N]: byte offset of each image in the archive; Parquet: its row."""
    lengths: np.ndarray
    """int64 [N]: bytes of each."""
    names: Names
    """Name of each in its shard."""
    titles: list[str]
    """The shards' names in messages: paths below the folder that they share."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_remote(self) -> bool:
        """Whether any shard is behind a URL."""
        return any(map(storage.is_remote, self.shards))

    def select(self, indices: np.ndarray) -> Members:
        """The images at these indices."""
        columns = {name: getattr(self, name)[indices] for name in ("numbers", "places", "lengths")}
        return replace(self, **columns, names=self.names.select(indices))

    def name(self, index: int) -> str:
        """The shard and the name in it."""
        return f"{self.titles[self.numbers[index]]}/{self.names[index]}"

    def read(self, index: int) -> bytes:
        """The content of an image. Errors: OSError, DataError."""
        path, place = self.shards[self.numbers[index]], int(self.places[index])
        if path.lower().endswith(parquet.SUFFIXES):
            return parquet.read(path, self.image_column, place)
        return storage.read(path, place, int(self.lengths[index]))

    def ends(self, index: int, size: int) -> tuple[bytes, bytes] | None:
        """The first and last `size` bytes of an image; None if that takes as long as reading it all.

        Errors: OSError, DataError.
        """
        path, place, length = self.shards[self.numbers[index]], int(self.places[index]), int(self.lengths[index])
        if storage.is_remote(path) or path.lower().endswith(parquet.SUFFIXES):
            return None
        size = min(size, length)
        return storage.read(path, place, size), storage.read(path, place + length - size, size)

    def sizes(self) -> np.ndarray:
        """Bytes of each image, int64 [N]."""
        return self.lengths

    def state(self) -> str:
        """A digest of the images' places, sizes and shards."""
        shards = " ".join([*map(storage.stamp, self.shards), *self.shards, self.image_column])
        return digest_of([shards, self.numbers, self.places, self.lengths])


def load(config: cfg.Shards, trained_classes: Sequence[str] = ()) -> Source:
    """The images of all shards of `data.train`, `val` and `test`; those of archives sorted by name.

    `trained_classes` as in `classes.numbers`. Errors: DataError for shards that are missing or damaged, and for samples
    without an image or a valid label, all at once.
    """
    problems = Problems()
    patterns = _patterns(config)
    shards = {split: storage.find(pattern, config.root, SUFFIXES) for split, pattern in patterns.items()}
    _refuse_shared(patterns, shards)
    every = list(dict.fromkeys(itertools.chain(*shards.values())))
    read = _of_all(every, lambda path: shard_index.load(path, config.image_column, config.label_column, problems))
    index_of = dict(zip(every, read, strict=True))
    indices = {split: [index_of[path] for path in paths] for split, paths in shards.items()}
    problems.refuse("samples are incomplete", "A sample is a picture and its label; docs/data.md says where they are.")
    for split, parts in indices.items():
        if not any(len(part.names) for part in parts):
            raise DataError(f"{classes.listed(shards[split])}: no pictures.")
    indices = _separate(config, shards, indices)
    if not config.many:
        _refuse_several(indices, config.label_separator)
    names, places = _classes(config, indices, trained_classes)
    splits = {}
    for split, parts in indices.items():
        labels = [
            _labels(path, part, places, problems, len(names) if config.many else None)
            for path, part in zip(shards[split], parts, strict=True)
        ]
        splits[split] = _split(shards[split], parts, np.concatenate(labels), config.image_column)
    problems.refuse("labels are not a class", f"Classes: {classes.listed(names, 20)}")
    counts = np.sum([part.skipped for part in read], axis=0).tolist()
    skipped = {reason: count for reason, count in zip((HIDDEN, NO_FILES), counts, strict=True) if count}
    name = os.path.basename(os.path.dirname(os.path.abspath(shards["train"][0])))
    return Source(
        name,
        names,
        **splits,
        own_order=names,
        skipped=skipped,
        skipped_paths={},
        layout="",
        is_undivided=len(splits) == 1,
    )


def refuse_missing(config: cfg.Shards) -> None:
    """Refuse missing shards, as far as they are on this machine. Errors: DataError."""
    for pattern in _patterns(config).values():
        if not storage.is_remote(config.root or pattern) and not storage.is_remote(pattern):
            _of_all(storage.find(pattern, config.root, SUFFIXES), storage.stamp)


def _of_all(paths: list[str], read: Callable[[str], Part]) -> list[Part]:
    """What is read of each shard. Errors: DataError with what is wrong with every one that cannot be read."""
    parts, wrong = [], []
    for path in paths:
        try:
            parts.append(read(path))
        except DataError as error:
            wrong.append(str(error))
    if len(wrong) > 1:
        more = [f"… and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise DataError("\n  ".join([f"{len(wrong):,} shards cannot be read:", *wrong[:NAMED], *more]))
    if wrong:
        raise DataError(wrong[0])
    return parts


def _patterns(config: cfg.Shards) -> dict[str, str]:
    """Split → what names its shards."""
    patterns = {"train": config.train, "val": config.val, "test": config.test}
    return {split: pattern for split, pattern in patterns.items() if pattern}


def _refuse_shared(patterns: dict[str, str], shards: dict[str, list[str]]) -> None:
    """Errors: DataError for shards that the patterns of `train` and of another split both match, as `*.tar` does."""
    for split, paths in shards.items():
        shared = sorted(set(paths) & set(shards["train"]))
        if shared and patterns[split] != patterns["train"]:
            raise DataError(
                f"data.train={patterns['train']} and data.{split}={patterns[split]} both name "
                f"{classes.listed(map(os.path.basename, shared))}. Choose patterns that have no shard in common."
            )


def _classes(
    config: cfg.Shards, indices: dict[str, list[Index]], trained_classes: Sequence[str]
) -> tuple[list[str], dict[str, int]]:
    class_names = next((list(part.classes) for parts in indices.values() for part in parts if len(part.classes)), None)
    class_names = tables.label_names(config) or class_names
    labels = {
        split: dict.fromkeys(label for part in parts for text in part.texts for label in label_texts.single(text))
        for split, parts in indices.items()
    }
    return classes.numbers(labels, class_names, f"of {config.train}", trained_classes)


def _separate(
    config: cfg.Shards, shards: dict[str, list[str]], indices: dict[str, list[Index]]
) -> dict[str, list[Index]]:
    """The same with the labels of an image joined with `BETWEEN`, also where they are written `sea;sky` or `0,1,1`.

    Errors: DataError for damaged vectors of 0 and 1.
    """
    separator, names = config.label_separator, None
    texts = list(dict.fromkeys(text for parts in indices.values() for part in parts for text in part.texts))
    if not separator or any(len(part.classes) for parts in indices.values() for part in parts):
        return indices
    # What ends with `BETWEEN` is multi-label, also if it is one label or none.
    if (entries := label_texts.vectors(texts, separator)) is None:
        separated = {text: label_texts.separate(text, separator) for text in texts}
        own = {text: text if text == label else f"{label}{BETWEEN}" for text, label in separated.items()}
    else:
        names = label_texts.vector_names(entries, tables.label_names(config), config.train)
        flagged = {text: label_texts.flagged(entry, names) for text, entry in zip(texts, entries, strict=True)}
        _refuse_damaged(shards, indices, flagged, names)
        own = {text: f"{label}{BETWEEN}" for text, label in flagged.items()}
    return {
        split: [
            replace(part, texts=Names.of(own[text] for text in part.texts), classes=Names.of(names or []))
            for part in parts
        ]
        for split, parts in indices.items()
    }


def _refuse_damaged(
    shards: dict[str, list[str]], indices: dict[str, list[Index]], flagged: dict[str, str | None], names: list[str]
) -> None:
    """Errors: DataError with the images whose vectors are damaged, which have None."""
    problems = Problems()
    for split, parts in indices.items():
        for path, part in zip(shards[split], parts, strict=True):
            for number, text in enumerate(part.texts):
                if flagged[text] is None:
                    problems.add(_first(path, part, number), label_texts.not_a_vector(text, names))
    problems.refuse("labels are wrong", "Fix them, or take them as they are: data.label_separator=null")


def _first(path: str, part: Index, number: int) -> str:
    """The first image with a label, for messages."""
    return f"{path}: {part.names[int(np.argmax(part.labels == number))]}"


def _refuse_several(indices: dict[str, list[Index]], separator: str | None) -> None:
    of_names = f". If '{separator}' is part of a name: data.label_separator=null" if separator else ""
    for split, parts in indices.items():
        if any(BETWEEN in text for part in parts for text in part.texts):
            raise DataError(
                f"The {split} shards have pictures with several labels. To train on all of them: "
                f"data.labels=many loss=bce{of_names}"
            )


def _labels(
    path: str, part: Index, places: dict[str, int], problems: Problems, several: int | None = None
) -> np.ndarray:
    """Class indices of a shard's images, int64 [N]; labels that are not a class are added to the problems.

    With `several`, the number of classes, images are multi-label: uint8 [N, several].
    """
    texts = list(part.texts)
    for number, text in enumerate(texts):
        for label in label_texts.single(text):
            if label not in places:
                problems.add(_first(path, part, number), f"'{label}'")
    if several is None:
        return np.array([places.get(text, 0) for text in texts], np.int64)[part.labels]
    rows = np.zeros((len(texts), several), np.uint8)
    for row, text in enumerate(texts):
        rows[row, [places[label] for label in label_texts.single(text) if label in places]] = 1
    return rows[part.labels]


def _below_what_they_share(paths: list[str]) -> list[str]:
    folders = [path.split("/")[:-1] for path in paths]
    shared = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
    return ["/".join(path.split("/")[shared:]) for path in paths]


def _split(shards: list[str], parts: list[Index], labels: np.ndarray, image_column: str) -> ImageFiles:
    """All images of some shards.

    Those of archives are sorted by name, as in folders and lists, so that training is the same. Those of Parquet keep
    their order, since reading one reads its neighbours.
    """
    names = Names.of(name for part in parts for name in part.names)
    members = Members(
        shards,
        image_column,
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.names) for part in parts]),
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        names,
        _below_what_they_share(shards),
    )
    split = ImageFiles(members, labels)
    if all(path.lower().endswith(archive.SUFFIXES) for path in shards):
        texts = list(names)
        split = split.select(np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.int64))
    return split
