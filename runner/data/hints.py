"""Where the labels of a folder of images may be, if they are not its folders."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .. import terminal
from . import tables

SUFFIXES = (".csv", ".tsv")


def list_of(pictures: str, near: Sequence[str]) -> str:
    """How to train on a table that names images of the folder `pictures`; empty if none of the folders `near` has one.

    Errors: DataError for a table that cannot be read.
    """
    for folder in near:
        for name in sorted(name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)):
            path = os.path.join(folder, name)
            if overrides := _overrides(path, pictures, folder):
                return f" {path} names images of it. If it has their labels: data=files {overrides}"
    return ""


def _overrides(table: str, pictures: str, folder: str) -> str:
    """The overrides for a table whose first row names an image below one of the two folders; empty for any other."""
    header, row = [*tables.head(table), [], []][:2]
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
