"""Image files in one folder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import numpy as np

from .. import config as cfg
from .. import terminal
from ..errors import DataError
from ..images import FORMATS, is_hidden, is_picture
from .classes import listed, refuse_foreign
from .names import Names
from .splits import FilesOnDisk, ImageFiles, Source

#: Name of a folder → the split in it.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
#: Names that such folders have elsewhere.
UNUSUAL = {"training", "trainset", "dev", "eval", "evaluation", "testing", "testset"}
#: Reasons to leave a name out.
HIDDEN, NO_PICTURE, LOOSE = "hidden or system names", "files that are no images", "images outside of class folders"
#: A folder's device and number, which are the same by whatever way it is reached.
Identity = tuple[int, int]


def load(config: cfg.ImageFolder) -> Source:
    """`root/{train,val,test}/<class>/*`, of which `train` alone is needed, or `root/<class>/*`, which is divided.

    Folders within a class folder belong to the class. Errors: DataError for any other layout, saying what is wrong,
    for a class without pictures, and for one that `train` does not have.
    """
    root, skipped = config.root, Counter[str]()
    folders, loose = scan(root, skipped)
    names = _split_folders(root, folders)
    skipped[LOOSE] += len(loose) if folders else 0
    if names:
        places = {split: os.path.join(root, name) for split, name in names.items()}
        classes = {split: _class_folders(place, skipped) for split, place in places.items()}
    else:
        places, classes = {"train": root}, {"train": _classes_among(root, folders, loose)}
    refuse_foreign(classes, f"in {root}", "Rename the folders, or add the class to the training images.")
    splits = {split: _split(root, names.get(split, ""), classes, split, skipped) for split in places}
    name = os.path.basename(os.path.abspath(root))
    return Source(name, classes["train"], **splits, skipped=dict(+skipped), is_undivided=not names)


def scan(folder: str, skipped: Counter[str]) -> tuple[list[str], list[str]]:
    """Names of the folders and of the pictures in a folder, by their text; all others are counted.

    Errors: DataError for what cannot be listed.
    """
    folders: list[str] = []
    pictures: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if is_hidden(name):
                    skipped[HIDDEN] += 1
                elif entry.is_dir():
                    folders.append(name)
                # A link to nothing is left for the check of pictures to name; a pipe would be waited for.
                elif is_picture(name) and (entry.is_file() or entry.is_symlink()):
                    pictures.append(name)
                else:
                    skipped[NO_PICTURE] += 1
    except OSError as error:
        raise DataError(
            f"{folder or 'data.root'} cannot be listed: {error.strerror}. data=image_folder expects "
            "data.root/train/<class>/<pictures> or data.root/<class>/<pictures>."
        ) from error
    return sorted(folders), sorted(pictures)


def walk(folder: str, skipped: Counter[str], prefix: str = "", above: tuple[Identity, ...] = ()) -> Iterator[str]:
    """Paths of all pictures below a folder, relative to it, in the order of their text; links are followed.

    Errors: DataError for what cannot be listed, and for a link that leads back to a folder above it.
    """
    folders, pictures = scan(folder, skipped)
    if folders:
        status = os.stat(folder)
        above = (*above, (status.st_dev, status.st_ino))
    # A folder stands where its name with a slash does: so do the paths of what is in it.
    for name in sorted([*pictures, *(f"{name}/" for name in folders)]) if folders else pictures:
        if not name.endswith("/"):
            yield prefix + name
            continue
        inner = os.path.join(folder, name[:-1])
        status = os.stat(inner)
        if (status.st_dev, status.st_ino) in above:
            raise DataError(f"{inner} is a link that leads back to a folder above it, without end. Remove the link.")
        yield from walk(inner, skipped, prefix + name, above)


def _split_folders(root: str, folders: list[str]) -> dict[str, str]:
    """Split → name of its folder; empty where the folders are classes. Errors: DataError for what is neither."""
    for name in folders:
        if name not in SPLITS and (name.lower() in SPLITS or name.lower() in UNUSUAL):
            raise DataError(
                f"{os.path.join(root, name)}: folders of splits are named train, val (or valid, validation) and test, "
                "in lower case. Rename it, even if it is a class."
            )
    names: dict[str, str] = {}
    for name in filter(SPLITS.__contains__, folders):
        if other := names.get(SPLITS[name]):
            raise DataError(f"{root} has both {other}/ and {name}/, two validation splits. Move one of them away.")
        names[SPLITS[name]] = name
    if names and "train" not in names:
        train = os.path.join(root, "train")
        raise DataError(f"{root} has {listed(names.values())}/ but no train/. Put the training images into {train}.")
    for name in folders if names else []:
        inner = os.path.join(root, name)
        if name not in SPLITS and next(walk(inner, Counter()), None):
            raise DataError(
                f"{root} has train/, and {name}/ with images beside it, which is not a split. Move "
                "it into train/ if it is a class, otherwise out of data.root."
            )
    return names


def _class_folders(place: str, skipped: Counter[str]) -> list[str]:
    """The class folders of a split."""
    folders, loose = scan(place, skipped)
    skipped[LOOSE] += len(loose) if folders else 0
    return _classes_among(place, folders, loose)


def _classes_among(place: str, folders: list[str], loose: list[str]) -> list[str]:
    """Those folders, which are classes. Errors: DataError where they cannot be."""
    if not folders:
        what = f"{len(loose)} images, but no class folders" if loose else "no class folders"
        raise DataError(f"{place} has {what}. Put the images of each class into a folder of its own there.")
    for name in folders:
        inner = os.path.join(place, name)
        if any(os.path.isdir(os.path.join(inner, split)) for split in SPLITS):
            raise DataError(
                f"{inner} has folders of splits in it, one level too deep. If this is the data set: "
                f"{terminal.pasted('data.root', inner)}. If it is a class, put it inside the split: train/{name}/."
            )
    if len(folders) == 1:
        inner = os.path.join(place, folders[0])
        deeper = scan(inner, Counter())[0]
        mend = (
            f"Is it one level too many? {inner} has {len(deeper)} folders."
            if len(deeper) > 1
            else "Add another class folder."
        )
        raise DataError(f"{place} has one class folder only, '{folders[0]}', and a network needs two classes. {mend}")
    return folders


def _split(root: str, place: str, classes: dict[str, list[str]], split: str, skipped: Counter[str]) -> ImageFiles:
    numbers = {name: number for number, name in enumerate(classes["train"])}
    paths: list[str] = []
    counts = []
    empty = []
    # By the whole path, as lists and archives of the same pictures are.
    for name in sorted(classes[split], key=lambda name: f"{name}/"):
        prefix = os.path.join(place, name, "")
        others, before = skipped[NO_PICTURE], len(paths)
        paths += walk(os.path.join(root, prefix), skipped, prefix)
        counts.append((numbers[name], len(paths) - before))
        if not counts[-1][1]:
            files = skipped[NO_PICTURE] - others
            empty.append(os.path.join(root, prefix) + (f" ({files} other files)" if files else ""))
    if empty:
        raise DataError(
            f"Class folders without images (supported: {', '.join(FORMATS)}): {listed(empty)}. Add some, or remove the "
            f"{'folder' if len(empty) == 1 else 'folders'}."
        )
    labels = np.repeat([label for label, _ in counts], [count for _, count in counts]).astype(np.int64)
    return ImageFiles(FilesOnDisk(root, Names.of(paths)), labels)
