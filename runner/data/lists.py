"""Data sets from lists of images and labels: text as in PaddleClas, CSV, TSV or Parquet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from .. import config as cfg
from ..errors import DataError
from . import classes, tables
from .classes import Problems
from .folder import SPLITS
from .names import Names
from .splits import FilesOnDisk, ImageFiles, Source
from .tables import Rows

#: Remedies for wrong lines, and for missing files.
MEND = (
    "Fix them: a list has `path label` a line, a table the columns data.path_column and data.label_column (or "
    "data.label_columns)."
)
MISSING = "Paths are relative to data.root, or else to the folder of the list. data.on_error=skip skips them."


def load(config: cfg.FileList, trained_classes: Sequence[str] = ()) -> Source:
    """The images of `data.train`, `val` and `test`, sorted by path; one list may contain all splits.

    Labels are int64 [N], uint8 [N, K] of 0 and 1 for multi-label images, or float64 [N, K] for soft ones.
    `trained_classes` as in `classes.numbers`. Errors: DataError for lists that cannot be read, wrong lines and missing
    files, of each all at once.
    """
    refuse_missing(config)
    problems = Problems()
    # Images are held out of the training images only.
    without = replace(config, group_column=None)
    rows = {
        split: tables.read(path, config if split == "train" else without, problems)
        for split, path in _lists(config).items()
    }
    problems.refuse("lines are wrong", MEND)
    if config.split_column:
        rows = _by_column(rows["train"], config.split_column, problems)
    several = _have_several(rows, config.many, problems)
    names, places = _classes(config, rows, trained_classes)
    if config.labels is cfg.Labels.soft:
        labels = {split: _numbers(part, list(places.values())) for split, part in rows.items()}
    else:
        labels = {split: _labels(part, places, len(names), several, problems) for split, part in rows.items()}
    problems.refuse("lines have a label that is not a class", f"Classes: {classes.listed(names, 20)}")
    splits, missing = {}, Problems()
    for split, part in rows.items():
        pictures = FilesOnDisk(config.root or os.path.dirname(part.source), Names.of(part.paths))
        exists = pictures.sizes() >= 0
        for place in np.flatnonzero(~exists):
            missing.add(part.where(place), pictures.read(place))
        order = _in_order(part, np.flatnonzero(exists).tolist(), problems)
        groups = np.unique(part.groups, return_inverse=True)[1][order] if part.groups else None
        splits[split] = ImageFiles(pictures.select(order), labels[split][order], groups=groups)
    problems.refuse("pictures have two labels", "Keep the line that is right.")
    if config.on_error is not cfg.OnError.skip:
        missing.refuse("pictures are missing", MISSING)
    skipped = {"missing files": missing.count} if missing.count else {}
    name = os.path.basename(config.train).partition(".")[0]
    return Source(
        name,
        names,
        **splits,
        own_order=names,
        skipped=skipped,
        skipped_paths={},
        layout="",
        is_undivided=len(rows) == 1,
    )


def refuse_missing(config: cfg.FileList) -> None:
    """Refuse lists, or an image folder, that cannot be opened. Errors: DataError."""
    for path in _lists(config).values():
        tables.refuse_missing(path)
    if config.root is not None and not os.path.isdir(config.root):
        raise DataError(f"{config.root} is not a folder, and data.root must be the folder that paths are relative to.")


def _lists(config: cfg.FileList) -> dict[str, str]:
    """Split → path of its list: as given, or below `data.root`."""
    paths = {"train": config.train, "val": config.val, "test": config.test}
    return {split: tables.found(path, config.root) for split, path in paths.items() if path is not None}


def _by_column(rows: Rows, column: str, problems: Problems) -> dict[str, Rows]:
    """One list divided by its split column. Errors: DataError for values that are not a split, or if none is
    `train`."""
    splits = np.array([SPLITS.get(text.strip().lower(), "") for text in rows.splits])
    for place in np.flatnonzero(splits == ""):
        problems.add(rows.where(place), f"'{rows.splits[place]}' is none of {', '.join(SPLITS)}")
    problems.refuse(f"lines have no split in column '{column}'", "Fix them, or remove data.split_column.")
    parts = {name: rows.select(np.flatnonzero(splits == name)) for name in ("train", "val", "test")}
    if not len(parts["train"].paths):
        raise DataError(f"{rows.source}: no line has 'train' in column '{column}'.")
    return {name: part for name, part in parts.items() if len(part.paths)}


def _have_several(rows: dict[str, Rows], wanted: bool, problems: Problems) -> bool:
    """Whether images are multi-label; if not, and unless it is `wanted`, each needs exactly one label."""
    several = wanted or any(part.several for part in rows.values())
    for part in rows.values():
        part.several = several
        for place, label in enumerate(part.labels if not several else []):
            if not label:
                problems.add(part.where(place), "no label")
    problems.refuse("lines are wrong", MEND)
    return several


def _classes(
    config: cfg.FileList, rows: dict[str, Rows], trained_classes: Sequence[str]
) -> tuple[list[str], dict[str, int]]:
    """(class names, label → class index); of soft labels the index of each column, in the order of the columns."""
    named = [part for part in rows.values() if part.names]
    for part in named[1:]:
        if part.names != named[0].names:
            counts = [f"{one.source} has {len(one.names or [])}" for one in (named[0], part)]
            raise DataError(
                f"The labels of the lists are of other classes: {', '.join(counts)}, a value of 0 or 1 each."
            )
    class_names = tables.label_names(config) or (named[0].names if named else None)
    if config.labels is cfg.Labels.soft:
        assert class_names is not None, "soft labels are read from columns"
        return class_names, _of_columns(config, class_names)
    labels = {
        split: dict.fromkeys(label for text in part.labels for label in part.each(text)) for split, part in rows.items()
    }
    names, places = classes.numbers(labels, class_names, f"of {config.train}", trained_classes)
    return names, _of_columns(config, names) if config.label_columns else places


def _of_columns(config: cfg.FileList, class_names: list[str]) -> dict[str, int]:
    """Column of labels → index of its class; only shares need a column for each class.

    Errors: DataError if the names of the classes are others.
    """
    columns, are_numbers = config.label_columns, all(map(str.isdecimal, config.label_columns))
    foreign, missing = set(columns) - set(class_names), set(class_names) - set(columns)
    has_no_header = are_numbers and config.path_column.isdecimal()
    if not foreign and not has_no_header and (not missing or config.labels is not cfg.Labels.soft):
        return {name: class_names.index(name) for name in columns}
    if are_numbers and len(columns) == len(class_names):
        return {name: number for number, name in enumerate(columns)}
    raise DataError(
        f"{config.label_file} does not have the names of the columns that data.label_columns names.\n"
        f"  columns: {classes.listed(columns, 20)}\n  file:    {classes.listed(class_names, 20)}\n"
        "Give both the same names, or remove data.label_file. The columns of a table without a header are numbers, one "
        "for each line of the file in its order."
    )


def _labels(rows: Rows, places: dict[str, int], count: int, several: bool, problems: Problems) -> np.ndarray:
    """int64 [N], or uint8 [N, K] for multi-label images; labels that are not a class are added to the problems."""
    labels = np.zeros((len(rows.paths), count), np.uint8) if several else np.zeros(len(rows.paths), np.int64)
    for row, text in enumerate(rows.labels):
        for label in rows.each(text):
            if (place := places.get(label)) is None:
                problems.add(rows.where(row), f"'{label}'")
            elif several:
                labels[row, place] = 1
            else:
                labels[row] = place
    return labels


def _numbers(rows: Rows, places: list[int]) -> np.ndarray:
    """float64 [N, K]: soft labels as they are written, each column at the index of its class."""
    numbers = np.array([[float(number) for number in rows.each(text)] for text in rows.labels], np.float64)
    return numbers.reshape(-1, len(places))[:, np.argsort(places)]


def _in_order(rows: Rows, places: Iterable[int], problems: Problems) -> np.ndarray:
    """These entries sorted by path; an image with two labels is added to the problems."""
    order = sorted(places, key=rows.paths.__getitem__)
    for one, other in itertools.pairwise(order):
        if rows.paths[one] == rows.paths[other] and rows.labels[one] != rows.labels[other]:
            problems.add(rows.where(other), f"{rows.paths[one]} has another label in line {rows.lines[one]}")
    return np.array(order, dtype=np.int64)
