"""Remembered results of earlier checks, so that images need not be checked again."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL

from .. import files, stored
from ..errors import DataError, ForeignPath
from ..files.digests import text_digest
from . import storage
from .facts import FACTS, NOTHING
from .shards import Members
from .splits import FilesOnDisk, Pictures

#: The magic number of a file; changes with its layout, and when pictures are refused that were not before.
_MAGIC = b"runner pictures 4\n"
_DIGEST = 16
#: An image's key, followed by its facts.
_RECORD = np.dtype([("key", "u8"), ("check", "u8"), *FACTS.descr])
#: Most images of a place, and most places, that are remembered.
MOST_PICTURES, MOST_PLACES = 4_000_000, 64


class Memory:
    """The facts of good images by name, size and modification time.

    A damaged file counts as empty. Two processes may write at once: each replaces the whole file, so that one's results
    win.
    """

    def __init__(self, place: str, max_pixels: int) -> None:
        """`place`: where the images are. The decoder, and the largest allowed image, are part of the key."""
        settings = json.dumps([os.path.realpath(place), max_pixels, PIL.__version__])
        self.path: Path | None = None
        # Without a home folder nothing is remembered.
        with contextlib.suppress(OSError):
            self.path = files.cache_folder() / "pictures" / f"{text_digest(settings)}.bin"
        self.records = _read(self.path)
        self.noted: list[np.ndarray] = []
        self.is_changed = False

    def keys(self, pictures: Pictures) -> np.ndarray:
        """Keys that change with an image's name, size and modification time, uint64 [N, 2]; 0 without a key."""
        keys = b"".join(
            hashlib.blake2b(stamp, digest_size=16).digest() if stamp else bytes(16) for stamp in self._stamps(pictures)
        )
        return np.frombuffer(keys, np.uint64).reshape(-1, 2)

    def _stamps(self, pictures: Pictures) -> Iterator[bytes]:
        """What tells each image from an earlier version of it; empty if nothing does."""
        match pictures:
            case FilesOnDisk():
                stats = pictures.stats()
                exists, facts = (stats[:, 0] >= 0).tolist(), stats.view("V16")[:, 0].tolist()
                for is_there, name, fact in zip(exists, pictures.names.encoded(), facts, strict=True):
                    yield name + b"\0" + fact if is_there else b""
            case Members():
                stamps = [_shard_stamp(shard) for shard in pictures.shards]
                for index in range(len(pictures)):
                    stamp = stamps[pictures.numbers[index]]
                    place = f"{pictures.name(index)}\0{pictures.places[index]}\0{pictures.lengths[index]}\0{stamp}"
                    yield os.fsencode(place) if stamp else b""
            case _:
                yield from itertools.repeat(b"", len(pictures))

    def recall(self, keys: np.ndarray) -> np.ndarray:
        """The facts of images with these keys, uint64 [N, 2]; of level NOTHING if unknown."""
        facts = np.zeros(len(keys), FACTS)
        if len(self.records):
            places = np.searchsorted(self.records["key"], keys[:, 0]) % len(self.records)
            records = self.records[places]
            same = (records["key"] == keys[:, 0]) & (records["check"] == keys[:, 1])
            for name in FACTS.names or ():
                facts[name][same] = records[name][same]
        return facts

    def note(self, keys: np.ndarray, facts: np.ndarray, is_new: bool) -> None:
        """Add the facts of some images; `save` writes them if any were new."""
        good = (facts["level"] > NOTHING) & keys.any(axis=1)
        records = np.zeros(int(good.sum()), _RECORD)
        records["key"], records["check"] = keys[good].T
        for name in FACTS.names or ():
            records[name] = facts[name][good]
        self.noted.append(records)
        self.is_changed |= is_new

    def save(self) -> None:
        """Write what was noted, and at most as many facts of other images; failure to write is ignored."""
        if self.path is None or not self.is_changed:
            return
        # Another process may have written it in the meantime.
        before, new = _read(self.path), np.concatenate(self.noted)
        others = before[~np.isin(before["key"], new["key"])][: len(new) + 10_000]
        records = np.concatenate([new, others])[:MOST_PICTURES]
        records = records[np.unique(records["key"], return_index=True)[1]]
        with contextlib.suppress(OSError, ForeignPath):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.partial_file(self.path) as partial, partial.open("xb") as stream:
                stream.write(_MAGIC + _digest(records.tobytes()))
                stream.write(records.tobytes())
            _remove_oldest(self.path.parent)


def _shard_stamp(shard: str) -> str:
    with contextlib.suppress(OSError, DataError):
        return storage.stamp(shard)
    return ""


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _read(path: Path | None) -> np.ndarray:
    """The records of a file, sorted by key; empty if it is missing, damaged or too large."""
    nothing = np.zeros(0, _RECORD)
    most = len(_MAGIC) + _DIGEST + MOST_PICTURES * _RECORD.itemsize
    with contextlib.suppress(OSError):
        if path is None or path.is_symlink():
            return nothing
        content = stored.read_regular(path, most)
        body = content[len(_MAGIC) + _DIGEST :]
        whole = content.startswith(_MAGIC) and len(body) % _RECORD.itemsize == 0
        if whole and content[len(_MAGIC) :][:_DIGEST] == _digest(body):
            return np.frombuffer(body, _RECORD)
    return nothing


def _remove_oldest(folder: Path) -> None:
    """Keep the most recently checked places."""
    paths = sorted(folder.glob("*.bin"), key=lambda path: path.stat().st_mtime)
    for path in paths[:-MOST_PLACES]:
        files.remove_file(path)
