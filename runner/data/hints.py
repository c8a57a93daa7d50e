"""Where the labels of a folder of images may be, if they are not its folders."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from .. import terminal
from ..errors import DataError
from . import tables

#: Names of tables, and the most bytes of one that is looked into.
SUFFIXES, LARGEST = (".csv", ".tsv"), 64 << 20
#: The columns that tables of `runner predict --format csv` begin and end with: they are no labels to train on.
PREDICTED = {("image", "class", "probability", "error"), ("image", "labels", "probabilities", "error")}


def list_of(pictures: str, near: Sequence[str]) -> str:
    """How to train on a table in one of the folders `near` that names images of `pictures`; empty without one."""
    for folder in near:
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES))
        for name in names:
            path = os.path.join(folder, name)
            # A file that cannot be read, or is no table, is no hint.
            with contextlib.suppress(OSError, DataError):
                if os.path.getsize(path) <= LARGEST and (overrides := _overrides(path, pictures, folder)):
                    return f" {path} names images of it. If it has their labels: data=files {overrides}"
    return ""


def _overrides(table: str, pictures: str, folder: str) -> str:
    """The overrides for a table whose first row names an image below one of the two folders; empty for any other."""
    header, row = [*tables.head(table), [], []][:2]
    if (*header[:3], *header[-1:]) in PREDICTED:
        return ""
    # Columns of a table without a header are named by numbers.
    for values, columns in ((header, [str(number) for number in range(len(header))]), (row, header)):
        for root in (pictures, folder):
            for value, column in zip(values, columns, strict=False):
                if value and os.path.isfile(os.path.join(root, value)):
                    others = [other for other in columns if other != column]
                    return _words(table, root, column, others)
    return ""


def _words(table: str, root: str, column: str, others: list[str]) -> str:
    """`others`: the columns of which one has the labels."""
    named = {"data.train": table, "data.root": root, "data.path_column": column}
    if others:
        known = [other for other in others if other.lower() == "label"]
        named["data.label_column"] = (known or others)[0]
    text = " ".join(terminal.pasted(key, value) for key, value in named.items())
    return text + (f" (or another column: {', '.join(others)})" if len(others) > 1 else "")
