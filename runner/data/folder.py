"""Data sets of image files with a folder for each class."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import config as cfg
from .. import terminal
from ..errors import DataError
from ..images.formats import FORMATS
from . import hints
from .classes import listed, refuse_foreign
from .names import Names
from .scanning import HIDDEN, NO_PICTURE, UNREAD, Skipped, folders_in, has_images, scan, unread, walk
from .splits import FilesOnDisk, ImageFiles, Source

#: Name of a folder → the split in it.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
#: Names that such folders have in other tools, but not here.
UNUSUAL = {"training", "trainset", "dev", "eval", "evaluation", "testing", "testset"}
#: A reason to skip a file.
LOOSE = "images outside of class folders"
#: The same in the singular.
SINGULAR = {
    HIDDEN: "hidden or system name", NO_PICTURE: "file that is not an image", LOOSE: "image outside of class folders",
    **{unread(suffix): f"{suffix} file, which is not read: convert it to JPEG or PNG" for suffix in UNREAD},
}  # fmt: skip
#: Levels below the root on which classes are looked for, and most folders of a level that are searched.
DEEPEST, MOST_TRIED = 4, 100
#: Most folders that are suggested instead.
MOST_SUGGESTED = 3


@dataclass
class Layout:
    """The folders of splits and classes of a set, before their images are listed."""

    root: str
    names: dict[str, str]
    """Split → name of its folder; empty if the folders are classes."""
    classes: dict[str, list[str]]
    """Split → names of its class folders."""
    skipped: Skipped
    """Why files were skipped → how many, and which."""

    def folders(self, split: str) -> list[str]:
        """The class folders of a split, relative to the root, in the order of the paths that are in them."""
        place = self.names.get(split, "")
        # Sorted by full path, as lists and archives of the same images are.
        return [os.path.join(place, name, "") for name in sorted(self.classes[split], key=lambda name: f"{name}/")]


def load(config: cfg.ImageFolder, trained_classes: Sequence[str] = ()) -> Source:
    """`root/{train,val,test}/<class>/*`, of which only `train` is required, or `root/<class>/*`, which is split.

    Subfolders of a class folder belong to the class. Where networks are only evaluated, `trained_classes` are those
    that they know, and any split and any classes are accepted. Errors: DataError for any other layout, saying what is
    wrong, for a class without images, and for one that `train` does not have.
    """
    tree = layout(config.root, trained_classes)
    names = sorted({*itertools.chain(*tree.classes.values())})
    splits = {split: _split(tree, split, names) for split in tree.classes}
    splits.setdefault("train", next(iter(splits.values())).select(np.zeros(0, np.int64)))
    name = os.path.basename(os.path.abspath(config.root))
    skipped = dict(+tree.skipped)
    paths = {why: [os.path.relpath(path, config.root) for path in some] for why, some in tree.skipped.paths.items()}
    notes = "; ".join(filter(None, (_nesting(tree), _within(tree), _mostly_left_out(tree, splits))))
    undivided = not tree.names
    return Source(name, names, **splits, own_order=names, skipped=skipped, skipped_paths=paths,
                  is_undivided=undivided, layout=notes)  # fmt: skip


def left_out(count: int, reason: str) -> str:
    """A number of skipped files with the reason."""
    return f"{count:,} {SINGULAR.get(reason, reason) if count == 1 else reason}"


def refuse_missing(config: cfg.ImageFolder, trained_classes: Sequence[str] = ()) -> None:
    """Refuse what `load` would refuse, as far as that needs no list of all images. Errors: DataError."""
    tree = layout(config.root, trained_classes)
    folders = itertools.chain(*map(tree.folders, tree.classes))
    if not any(has_images(os.path.join(config.root, folder)) for folder in folders):
        load(config, trained_classes)


def layout(root: str, trained_classes: Sequence[str] = ()) -> Layout:
    """The splits and classes of a folder. Errors: DataError as in `load`."""
    skipped = Skipped()
    folders, loose = scan(root, skipped)
    names = _split_folders(root, folders, must_train=not trained_classes)
    _add_loose(skipped, root, folders, loose)
    if names:
        places = {split: os.path.join(root, name) for split, name in names.items()}
        classes = {split: _class_folders(place, skipped, trained_classes) for split, place in places.items()}
    else:
        classes = {"train": _classes_among(root, folders, loose, trained_classes)}
        if not trained_classes:
            _refuse_repeated(root, folders)
    if not trained_classes:
        refuse_foreign(classes, f"in {root}", "Rename the folders, or add the class to the training images.")
    return Layout(root, names, classes, skipped)


def _split_folders(root: str, folders: list[str], must_train: bool) -> dict[str, str]:
    """Split → name of its folder; empty if the folders are classes. Errors: DataError if they are neither."""
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
    if must_train and names and "train" not in names:
        train = os.path.join(root, "train")
        raise DataError(f"{root} has {listed(names.values())}/ but no train/. Put the training images into {train}.")
    for name in folders if names else []:
        inner = os.path.join(root, name)
        if name not in SPLITS and next(walk(inner, Skipped()), None):
            raise DataError(
                f"{root} has {next(iter(names.values()))}/, and next to it {name}/ with images, which is not a split. "
                "Move it into train/ if it is a class, otherwise out of data.root."
            )
    return names


def _add_loose(skipped: Skipped, place: str, folders: list[str], loose: list[str]) -> None:
    """Count images beside class folders."""
    for name in loose if folders else []:
        skipped.add(LOOSE, place, name)


def _class_folders(place: str, skipped: Skipped, trained_classes: Sequence[str]) -> list[str]:
    """The class folders of a split."""
    folders, loose = scan(place, skipped)
    _add_loose(skipped, place, folders, loose)
    return _classes_among(place, folders, loose, trained_classes)


def _classes_among(place: str, folders: list[str], loose: list[str], trained_classes: Sequence[str]) -> list[str]:
    """Those of the folders that are classes. Errors: DataError if they cannot be."""
    if not folders:
        what = f"{terminal.counted(len(loose), 'image')}, but no class folders" if loose else "no class folders"
        above = os.path.dirname(os.path.abspath(place))
        hint = loose and (_did_you_mean(above) if _looks_like_a_set(above) else hints.list_of(place, (place, above)))
        raise DataError(f"{place} has {what}. Put the images of each class into a folder of its own there.{hint or ''}")
    for name in folders:
        inner = os.path.join(place, name)
        if any(os.path.isdir(os.path.join(inner, split)) for split in SPLITS):
            raise DataError(
                f"{inner} contains folders of splits, one level too deep. If this is the data set: "
                f"{terminal.pasted('data.root', inner)}. If it is a class, put it inside the split: train/{name}/."
            )
    if len(folders) == 1 and folders[0] not in trained_classes:
        needs = "" if trained_classes else ", and a network needs two classes"
        hint = _deeper(place) or hints.list_of(os.path.join(place, folders[0]), (place,))
        raise DataError(
            f"{place} has one class folder only, '{folders[0]}'{needs}.{hint or ' Add another class folder.'}"
        )
    return folders


def _are_nested(place: str, folders: list[str]) -> bool:
    """Whether no image is in one of these folders itself."""
    return not any(has_images(os.path.join(place, name), deep=False) for name in folders)


def _nesting(tree: Layout) -> str:
    """What was taken as classes, if all images are in folders within them; else empty."""
    place = os.path.join(tree.root, tree.names["train"]) if "train" in tree.names else tree.root
    folders = tree.classes.get("train", [])
    if not folders or not _are_nested(place, folders):
        return ""
    [inner] = folders_in(os.path.join(place, folders[0]))[:1]
    return (
        f"classes are the folders in {place}: {listed(folders)}; all images are in folders within them, such as "
        f"{folders[0]}/{inner}, which count as part of them"
    )


def _within(tree: Layout) -> str:
    """The class folders that seem to be whole sets, where others do not; else empty."""
    folders = [] if tree.names else [os.path.join(tree.root, name) for name in tree.classes["train"]]
    sets = [folder for folder in folders if not has_images(folder, deep=False) and _looks_like_a_set(folder)]
    if not sets or len(sets) == len(folders):
        return ""
    meant = " or ".join(terminal.pasted("data.root", folder) for folder in sets[:MOST_SUGGESTED])
    return f"{listed(sets)}, taken as one class, has several folders of images: did you mean {meant}?"


def _mostly_left_out(tree: Layout, splits: Mapping[str, ImageFiles]) -> str:
    """A note if more files were skipped than images found; else empty."""
    skipped = sum(count for reason, count in tree.skipped.items() if reason != HIDDEN)
    images = sum(map(len, splits.values()))
    if skipped <= images:
        return ""
    return f"{terminal.counted(images, 'image')}, and more files that are left out: is {tree.root} the right folder?"


def _refuse_repeated(root: str, folders: list[str]) -> None:
    """Errors: DataError if all images are in folders within these, and two or more of those are in each of them."""
    if not _are_nested(root, folders):
        return
    inner = [set(folders_in(os.path.join(root, name))) for name in folders]
    if len(shared := sorted(set.intersection(*inner))) > 1:
        raise DataError(
            f"{root} has the folders {listed(folders)}, and each of them has {listed(shared)}: one level too many. If "
            f"{listed(shared)} are the classes, join their images in {os.path.join(root, shared[0])} and so on, or "
            f"name one of the upper folders: {terminal.pasted('data.root', os.path.join(root, folders[0]))}. "
            f"If {listed(folders)} are, move them into {os.path.join(root, 'train')}, whose folders are classes."
        )


def _did_you_mean(folder: str) -> str:
    return f" Did you mean {terminal.pasted('data.root', folder)}?"


def _deeper(place: str) -> str:
    """What to do if the classes seem to be in a folder further down; empty if none looks like that."""
    level = [place]
    for _ in range(DEEPEST):
        level = [os.path.join(folder, name) for folder in level for name in folders_in(folder)][:MOST_TRIED]
        if deeper := next(filter(_looks_like_a_set, level), None):
            if os.path.basename(os.path.abspath(place)) in SPLITS:
                return f" Did you mean the folders in {deeper}? Move them up into {place}."
            return _did_you_mean(deeper)
    return ""


def _looks_like_a_set(folder: str) -> bool:
    """Whether two or more folders in a folder have images, or it has `train`."""
    folders = folders_in(folder)[:MOST_TRIED]
    having = (name for name in folders if has_images(os.path.join(folder, name), deep=False))
    return "train" in folders or len([*itertools.islice(having, 2)]) == 2


def _split(tree: Layout, split: str, classes: list[str]) -> ImageFiles:
    numbers = {name: number for number, name in enumerate(classes)}
    paths: list[str] = []
    counts = []
    empty = []
    for folder in tree.folders(split):
        skipped, before = Counter(tree.skipped), len(paths)
        paths += walk(os.path.join(tree.root, folder), tree.skipped, folder)
        counts.append((numbers[os.path.basename(folder[:-1])], len(paths) - before))
        if not counts[-1][1]:
            others = [left_out(count, reason) for reason, count in (tree.skipped - skipped).items() if reason != HIDDEN]
            empty.append(os.path.join(tree.root, folder) + (f" ({', '.join(others)})" if others else ""))
    if empty:
        hint = "" if len(counts) - len(empty) > 1 else _deeper(os.path.join(tree.root, tree.names.get(split, "")))
        raise DataError(
            f"Class folders without images (supported: {', '.join(FORMATS)}): {listed(empty)}. Add some, or remove the "
            f"{'folder' if len(empty) == 1 else 'folders'}.{hint}"
        )
    labels = np.repeat([label for label, _ in counts], [count for _, count in counts]).astype(np.int64)
    return ImageFiles(FilesOnDisk(tree.root, Names.of(paths)), labels)
