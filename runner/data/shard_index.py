"""The index of a shard: built once, and kept in the user's cache folder until the shard changes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import files, stored
from ..errors import ForeignPath
from ..files.digests import digest_of, text_digest
from . import archive, parquet, storage
from .classes import Problems
from .names import Names

#: The layout version; changes when an older index would be wrong or unreadable.
VERSION = 4

#: Fields of an index that are strings, and those that are numbers.
NAMES, NUMBERS = ("names", "texts", "classes"), ("places", "lengths", "labels", "skipped")
#: Name, offset or row, length and label of an image.
Picture = tuple[str, int, int, str]


@dataclass
class Index:
    """The images of one shard."""

    names: Names
    """Name of each image, [N]: its path in the archive, or the value of the column."""
    texts: Names
    """Distinct labels: names or numbers of classes; several labels are joined with `BETWEEN`."""
    classes: Names
    """Class names if the shard itself has them, else none."""
    places: np.ndarray
    """int64 [N]: byte offset of each image in the archive; Parquet: its row."""
    lengths: np.ndarray
    """int64 [N]: bytes of each."""
    labels: np.ndarray
    """int64 [N]: index of each label in `texts`."""
    skipped: np.ndarray
    """int64 [2]: how many hidden or system files were skipped, and how many links and others that are not files."""

    @classmethod
    def of(cls, pictures: Sequence[Picture], classes: Iterable[str], skipped: list[int]) -> Index:
        """An index from (name, place, length, label) of each image."""
        names, places, lengths, labels = zip(*pictures, strict=True) if pictures else ((), (), (), ())
        texts = dict.fromkeys(labels)
        numbers = {text: number for number, text in enumerate(texts)}
        return cls(
            Names.of(names),
            Names.of(texts),
            Names.of(classes),
            np.array(places, np.int64),
            np.array(lengths, np.int64),
            np.array([numbers[label] for label in labels], np.int64),
            np.array(skipped, np.int64),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name."""
        parts = {f"{name}_{part}": getattr(getattr(self, name), part) for name in NAMES for part in ("text", "ends")}
        return parts | {name: getattr(self, name) for name in NUMBERS}


def load(path: str, image_column: str, label_column: str, problems: Problems) -> Index:
    """The index of a shard, from the cache if that is still valid. Its problems are added to `problems`.

    Errors: DataError for a shard that cannot be read.
    """
    where = path if storage.is_remote(path) else os.path.abspath(path)
    identity = "\n".join([str(VERSION), where, image_column, label_column])
    state = f"{identity}\n{storage.stamp(path)}"
    if (cached := _stored(identity, state)) is not None:
        return cached
    before = problems.count
    pictures, classes, skipped = (parquet if path.lower().endswith(parquet.SUFFIXES) else archive).pictures(
        path, image_column, label_column, problems
    )
    index = Index.of(pictures, classes, skipped)
    if problems.count == before:
        _store(identity, state, index)
    return index


def _stored(identity: str, state: str) -> Index | None:
    """What `_store` wrote; None if it does not exist, is outdated, or is damaged."""
    try:
        with stored.open_regular(_place(identity)) as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        names, texts, classes = (Names(arrays[f"{name}_text"], arrays[f"{name}_ends"]) for name in NAMES)
        index = Index(names, texts, classes, *(arrays[name] for name in NUMBERS))
        proof = bytes(arrays["proof"]).decode()
    except Exception:
        # A damaged file raises many types of errors; the index is built again.
        return None
    return index if proof == _proof(state, index) else None


def _store(identity: str, state: str, index: Index) -> None:
    proof = np.frombuffer(_proof(state, index).encode(), np.uint8)
    # Without a cache the shard is simply indexed again next time.
    with contextlib.suppress(OSError, ForeignPath):
        place = _place(identity)
        os.makedirs(place.parent, exist_ok=True)
        with files.partial_file(place) as partial, partial.open("xb") as stream:
            np.savez(stream, proof=proof, **index.arrays())


def _place(identity: str) -> Path:
    return files.cache_folder() / "shards" / f"{text_digest(identity)}.npz"


def _proof(state: str, index: Index) -> str:
    """A digest of the shard's state and all arrays."""
    return digest_of([state, *index.arrays().values()])
