"""The cache of decoded images, so that later epochs (and, on disk, later runs) need not decode them."""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import platform
import shutil
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import features

from .. import config as cfg
from .. import device, files, processes, stored
from ..errors import ForeignPath, UserError
from ..files.digests import text_digest
from ..terminal import counted
from .splits import ImageFiles, Source

#: Fraction of the free space that the cache may take: training needs memory, and other programs need room on the disk.
SHARE_OF_FREE = 0.5
#: Days after which the images of an unused set are removed.
UNUSED_DAYS = 30
#: Marks an image on disk as written; changes whenever `images.decode` gives other bytes.
_MARK = struct.Struct("=4sI")
_MAGIC = b"pic2"


@dataclass
class InMemory:
    """The first images of a split, in memory that a process shares with its decoding processes."""

    pictures: np.ndarray
    """uint8 [K, H, W, C]."""
    filled: np.ndarray
    """uint8 [K]: 1 where an image is cached."""

    def read(self, index: int) -> np.ndarray | None:
        """The image, uint8 [H, W, C], if it is cached."""
        return self.pictures[index] if index < len(self.filled) and self.filled[index] else None

    def write(self, index: int, picture: np.ndarray) -> None:
        """Cache an image, if there is room for it."""
        if index < len(self.filled):
            self.pictures[index] = picture
            self.filled[index] = 1

    def has_all(self, count: int) -> bool:
        """Whether all images of a split are cached."""
        return len(self.filled) == count and bool(self.filled.all())


@dataclass
class OnDisk:
    """The first images of a split in a file, which several runs may use at once, as all write the same bytes.

    Each image is followed by its checksum, so that one that is half written, damaged or lost in a power failure counts
    as not cached and is written again.
    """

    file: BinaryIO
    shape: tuple[int, int, int]
    """[H, W, C]."""
    room: int
    """Images that it has room for."""
    filled: np.ndarray
    """uint8 [room], shared with forked processes: 1 where this run has read or written the image."""

    def read(self, index: int) -> np.ndarray | None:
        """The image, uint8 [H, W, C], if it is cached."""
        if index >= self.room:
            return None
        picture, mark = np.empty(self.shape, dtype=np.uint8), bytearray(_MARK.size)
        with contextlib.suppress(OSError):
            os.preadv(self.file.fileno(), [picture.data, mark], int(index) * _stride(self.shape))
            if mark == _mark(index, picture):
                self.filled[index] = 1
                return picture
        return None

    def write(self, index: int, picture: np.ndarray) -> None:
        """Cache an image, if there is room for it; once the disk is full, no more are written."""
        if index < self.room:
            try:
                os.pwritev(self.file.fileno(), [picture.data, _mark(index, picture)], int(index) * _stride(self.shape))
                self.filled[index] = 1
            except OSError:
                self.room = 0

    def has_all(self, count: int) -> bool:
        """Whether this run has read or written all images of a split here."""
        return self.room == count and bool(self.filled.all())

    def announce(self, indices: np.ndarray) -> None:
        """Have the system read ahead the images that come next, int64 [n], without waiting for it."""
        stride = _stride(self.shape)
        for index in indices.tolist():
            os.posix_fadvise(self.file.fileno(), index * stride, stride, os.POSIX_FADV_WILLNEED)


def _stride(shape: tuple[int, int, int]) -> int:
    """Bytes of an image and its checksum."""
    return math.prod(shape) + _MARK.size


def _mark(index: int, picture: np.ndarray) -> bytes:
    return _MARK.pack(_MAGIC, zlib.crc32(picture.data, int(index)))


def attach(config: cfg.Pictures, source: Source) -> list[str]:
    """Give the splits of a source the cache that the config asks for.

    Returns notes for the user: that there is no room for all images, or for any.
    """
    splits = {name: split for name, split in source.splits.items() if isinstance(split, ImageFiles)}
    match config.cache:
        case cfg.Cache.memory:
            # The test split is read only once.
            splits.pop("test", None)
            return _in_memory(splits)
        case cfg.Cache.disk:
            try:
                return _on_disk(splits, files.cache_folder() / "decoded")
            except (OSError, UserError) as error:
                return [f"data.cache=disk caches nothing, so every epoch decodes its pictures: {error}"]
    return []


def _in_memory(splits: dict[str, ImageFiles]) -> list[str]:
    notes, free = [], int(SHARE_OF_FREE * device.free_memory())
    for name, split in splits.items():
        size = math.prod(split.shape)
        room = min(len(split), free // size)
        free -= room * size
        split.cache = InMemory(shared_memory((room, *split.shape)), shared_memory((room,)))
        if room < len(split):
            notes.append(
                f"data.cache=memory keeps {room:,} of {counted(len(split), 'picture')} ({name}): the rest does not fit "
                f"into half of the free memory, and is decoded in every epoch; data.cache=disk has more room"
            )
    return notes


def _on_disk(splits: dict[str, ImageFiles], folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    opened = {name: _open(folder / f"{_key(split)}.pictures") for name, split in splits.items()}
    wanted = sum(len(split) * _stride(split.shape) for split in splits.values())
    present = sum(os.fstat(file.fileno()).st_blocks * 512 for file in opened.values())
    _remove_unused(folder, wanted - present)
    notes, free = [], int(SHARE_OF_FREE * shutil.disk_usage(folder).free) + present
    for name, split in splits.items():
        room = min(len(split), free // _stride(split.shape))
        free -= room * _stride(split.shape)
        split.cache = OnDisk(opened[name], split.shape, room, shared_memory((room,)))
        if room < len(split):
            notes.append(
                f"data.cache=disk keeps {room:,} of {counted(len(split), 'picture')} ({name}): the rest does not fit "
                f"into half of what is free in {folder}, and is decoded in every epoch; XDG_CACHE_HOME names "
                "another place"
            )
    return notes


def _open(path: Path) -> BinaryIO:
    """A file that is locked against removal, and marked as used now. Errors: OSError, ForeignPath."""
    if path.is_symlink():
        raise ForeignPath(f"{path} is a symbolic link. Remove it.")
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.utime(file.fileno())
    return file


def _key(split: ImageFiles) -> str:
    """A key of everything that a split's decoded images depend on: files, preprocessing and decoder."""
    decoder = (_MAGIC, PIL.__version__, features.version("libjpeg_turbo"), platform.machine())
    return text_digest(f"{split.encoded.state()} {split.preparation} {decoder}")


def _remove_unused(folder: Path, wanted: int) -> None:
    """Remove sets that were not used for long; if there is no room, further ones, the least recently used first."""
    now, used = time.time(), {}
    for path in folder.glob("*.pictures"):
        # Another process may remove the same ones.
        with contextlib.suppress(FileNotFoundError):
            if not path.is_symlink():
                used[path] = path.stat().st_mtime
    for path in sorted(used, key=used.__getitem__):
        is_short = wanted > SHARE_OF_FREE * shutil.disk_usage(folder).free
        if is_short or now - used[path] > UNUSED_DAYS * 86400:
            # Whoever uses a set shares its lock.
            with stored.opened(path) as stream:
                if stream is None or processes.lock(stream.fileno(), patience_s=0):
                    files.remove_file(path)


def shared_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, shared with processes that are forked from now on, without /dev/shm.

    Memory is allocated when it is written to. Errors: MemoryError.
    """
    size = math.prod(shape)
    try:
        return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=np.uint8, count=size).reshape(shape)
    except OSError as error:
        raise MemoryError(f"{size >> 20} MB that processes share: {error.strerror}") from error
