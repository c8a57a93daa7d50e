"""Image files in one folder a class."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .. import config as cfg
from ..errors import DataError, nearest
from ..images import FORMATS
from .splits import ImageFiles, Source


def load(config: cfg.ImageFolder) -> Source:
    """`root/train/<class>/*`, `root/test/<class>/*` and, where it exists, `root/val/<class>/*`.

    Errors: DataError for a missing folder, a class without images, a class that `train` does not have.
    """
    root = Path(config.root)
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataError(
                f"{root / split} is not a folder. data=image_folder expects data.root/{split}/<class>/<image files>; "
                f"data.root is '{root}'."
            )
    classes = [path.name for path in _folders(root / "train")]
    if not classes:
        raise DataError(
            f"{root / 'train'} has no class folders. Put the images of each class into a folder of its own."
        )
    val = _split(root / "val", classes) if (root / "val").is_dir() else None
    train, test = (_split(root / split, classes) for split in ("train", "test"))
    return Source(root.name or "image_folder", classes, train, test, val)


def _folders(place: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones such as `.ipynb_checkpoints`."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split(folder: Path, classes: list[str]) -> ImageFiles:
    paths: list[str] = []
    labels: list[int] = []
    for place in _folders(folder):
        if place.name not in classes:
            raise DataError(
                f"{place} is a class that the training images do not have.{nearest(place.name, classes)} "
                f"Classes: {', '.join(classes[:20])}"
            )
        files = list(map(str, _images(place)))
        if not files:
            raise DataError(f"{place} holds no images ({', '.join(sorted(FORMATS))}). Add some or remove the folder.")
        paths += files
        labels += [classes.index(place.name)] * len(files)
    return ImageFiles(paths, np.array(labels, dtype=np.int64))


def find(places: Iterable[str]) -> list[Path]:
    """The image files that files, folders and globs name, each once. Errors: DataError where one names none."""
    files: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(place, recursive=True)))
        images = [image for match in matches for image in (_images(match) if match.is_dir() else [match])]
        if not images:
            suffixes = ", ".join(sorted(FORMATS))
            raise DataError(f"{place}: no image was found. Give files, folders or globs ({suffixes}).")
        files |= dict.fromkeys(images)
    return list(files)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS)
