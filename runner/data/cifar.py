"""CIFAR-10 and CIFAR-100 from their official Python files (Krizhevsky, 2009)."""

from __future__ import annotations

import contextlib
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import config as cfg
from .. import stored
from ..errors import DataError
from ..images.resampling import resize_all
from . import download, unpickling
from .splits import Images, Source

HOME = "https://www.cs.toronto.edu/~kriz"
ARCHIVES = {
    "cifar10": download.OfficialFile(
        "cifar-10-python.tar.gz", f"{HOME}/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
    ),
    "cifar100": download.OfficialFile(
        "cifar-100-python.tar.gz", f"{HOME}/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"
    ),
}
#: The folder that an archive unpacks to.
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
#: Most bytes of a file in an archive: the largest, CIFAR-100's `train`, has 155 million.
LARGEST = 200_000_000


def load(config: cfg.Cifar10 | cfg.Cifar100) -> Source:
    """50,000 training and 10,000 test images.

    They are read from the unpacked files in `root` or its official sub-folder, else from the archive in `root`.
    """
    if isinstance(config, cfg.Cifar10):
        meta, label_key, names_key = "batches.meta", b"labels", b"label_names"
        train_files, test_file = [f"data_batch_{number}" for number in range(1, 6)], "test_batch"
    else:
        meta, label_key, names_key = "meta", b"fine_labels", b"fine_label_names"
        train_files, test_file = ["train"], "test"
    files = _Files(Path(config.root), FOLDERS[config.kind], ARCHIVES[config.kind], config.download)
    names = _names(files.read(meta), names_key, files.where / meta)
    train = _images([files.read(name) for name in train_files], label_key, config.size, files.where)
    test = _images([files.read(test_file)], label_key, config.size, files.where)
    return Source(config.kind, names, train, test)


def require(config: cfg.Cifar10 | cfg.Cifar100) -> None:
    """Check that the files of the set exist. Errors: DataError."""
    _Files(Path(config.root), FOLDERS[config.kind], ARCHIVES[config.kind], may_download=False)


class _Files:
    """The set's files, unpacked or in their archive."""

    def __init__(self, root: Path, folder: str, archive: download.OfficialFile, may_download: bool) -> None:
        unpacked = [place for place in (root, root / folder) if (place / _probe(folder)).is_file()]
        self.folder = folder
        self.where = unpacked[0] if unpacked else root / archive.name
        if not unpacked:
            download.require(root, [archive], may_download)

    def read(self, name: str) -> dict[bytes, Any]:
        """One unpickled file. Errors: DataError if it is missing or damaged."""
        try:
            with self._open(name) as stream:
                content = unpickling.load(stream)
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__}")
            return content
        except FileNotFoundError as error:
            raise DataError(f"{self.where / name} is missing. Unpack the official archive there again.") from error
        except (OSError, KeyError, EOFError, pickle.UnpicklingError, tarfile.TarError, ValueError, zlib.error) as error:
            raise DataError(f"{self.where}: {name} is damaged: {error}. Fetch the official archive again.") from error

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self.where.is_dir():
            with stored.open_regular(self.where / name, LARGEST) as stream:
                yield stream
            return
        with stored.open_regular(self.where) as file, tarfile.open(fileobj=file) as archive:
            member = archive.getmember(f"{self.folder}/{name}")
            if not member.isfile() or member.size > LARGEST:
                raise ValueError("it is not a file of the official size")
            with archive.extractfile(member) as stream:  # type: ignore[union-attr]
                yield stream


def _names(content: dict[bytes, Any], key: bytes, where: Path) -> list[str]:
    try:
        return [name.decode() for name in content[key]]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where} does not name this set's classes: {error}. Unpack the official archive again."
        ) from error


def _probe(folder: str) -> str:
    return "batches.meta" if folder == "cifar-10-batches-py" else "meta"


def _images(batches: list[dict[bytes, Any]], label_key: bytes, size: tuple[int, int], where: Path) -> Images:
    try:
        parts = [_rows_and_labels(batch[b"data"], batch[label_key]) for batch in batches]
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{where} does not contain this set's official files: {error}.") from error
    rows, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(resize_all(np.ascontiguousarray(images), size), labels)


def _rows_and_labels(rows: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 3072] and int64 [N] of one file. Errors: ValueError, OverflowError for invalid content."""
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32:
        raise ValueError("the images are not rows of 3,072 bytes")
    if not isinstance(labels, list) or len(labels) != len(rows) or not all(type(label) is int for label in labels):
        raise ValueError("the labels are not one number an image")
    return rows, np.array(labels, dtype=np.int64)
