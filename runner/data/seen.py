"""Recognising images that a network was trained on, in whatever split, order or folder they are measured later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .. import device
from ..errors import DataError
from . import facts
from .shards import Members
from .splits import FilesOnDisk, ImageFiles, Images, Split

#: Up to this many images of a split are read to compare their content; more are recognised by name and size.
MOST_READ = 10_000


@dataclass(frozen=True)
class Keys:
    """What images are recognised by. Both arrays are uint64 [N], 0 where unknown."""

    names: np.ndarray
    """Digests of the images' names below the root and their sizes in bytes; unknown for images in memory."""
    content: np.ndarray
    """Digests of the images' bytes or pixels."""

    def __post_init__(self) -> None:
        assert self.names.shape == self.content.shape

    def __len__(self) -> int:
        return len(self.names)

    def __add__(self, other: Keys) -> Keys:
        return Keys(np.append(self.names, other.names), np.append(self.content, other.content))

    def unique(self) -> Keys:
        """The same images, each once."""
        pairs = np.unique(np.stack([self.names, self.content]), axis=1)
        return Keys(*np.ascontiguousarray(pairs))

    def among(self, others: Keys) -> np.ndarray:
        """Which images are among others, bool [N]: by content or, where one of the two is unknown, by name."""
        is_known = self.content != 0
        by_content = is_known & np.isin(self.content, others.content)
        unknown = others.names[others.content == 0]
        named = np.where(is_known, np.isin(self.names, unknown), np.isin(self.names, others.names))
        return by_content | ((self.names != 0) & named)

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        # Of an array that is not contiguous safetensors writes other bytes.
        columns = {"names": self.names, "content": self.content}
        content: bytes = save({name: np.ascontiguousarray(column) for name, column in columns.items()})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Keys:
        """From a file's content. Errors: ValueError if they are not keys."""
        try:
            tensors = load(content)
            names, digests = tensors["names"], tensors["content"]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"no keys of images: {error}") from error
        if names.dtype != np.uint64 or digests.dtype != np.uint64 or names.ndim != 1 or names.shape != digests.shape:
            raise ValueError("keys of images are two arrays uint64 [N]")
        return cls(names, digests)


#: No images.
NONE = Keys(np.zeros(0, np.uint64), np.zeros(0, np.uint64))


def keys(split: Split, content: np.ndarray | None = None) -> Keys:
    """The keys of a split. `content`: digests of its images' bytes from a check, uint64 [N], 0 where unknown."""
    if isinstance(split, Images):
        return Keys(np.zeros(len(split), np.uint64), facts.in_memory(split.images)["content"])
    if content is None or not content.all():
        content = _read(split)
    return Keys(names(split), content)


def names(split: ImageFiles) -> np.ndarray:
    """Digests of the images' names and sizes, uint64 [N]."""
    sizes = split.encoded.sizes().tolist()
    return _digests(os.fsencode(f"{name}\0{size}") for name, size in zip(split.names(), sizes, strict=True))


def draws(split: Split, seed: int) -> np.ndarray | None:
    """A random number for each image that depends on the seed and its name alone, uint64 [N]; None without names.

    The name is that in the folder or shard, so that other shards of the same images are divided alike; if several
    shards have it, as rows of Parquet without paths, the shard is part of it.
    """
    pictures = split.encoded if isinstance(split, ImageFiles) else None
    if not isinstance(pictures, FilesOnDisk | Members):
        return None
    numbers = _digests(b"%d\0%s" % (seed, name) for name in pictures.names.encoded())
    if isinstance(pictures, Members) and len(np.unique(numbers)) < len(numbers):
        return _digests(os.fsencode(f"{seed}\0{pictures.name(index)}") for index in range(len(pictures)))
    return numbers


def _digests(texts: Iterator[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts), np.uint64)


def _read(split: ImageFiles) -> np.ndarray:
    """Digests of the images' bytes, uint64 [N]: 0 for one that cannot be read, and for all of a large or remote set."""
    pictures = split.encoded
    if len(split) > MOST_READ or (isinstance(pictures, Members) and pictures.is_remote):
        return np.zeros(len(split), np.uint64)

    def one(index: int) -> int:
        try:
            return facts.content(facts.read(pictures, index))
        except (OSError, DataError):
            return 0

    with ThreadPoolExecutor(device.cores(), "digest") as pool:
        return np.fromiter(pool.map(one, range(len(split))), np.uint64, len(split))
