"""Soft labels, `data.labels=soft`: what share of an image is of each class, such as the votes of several people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import DataError
from .splits import Source, Split


def divided(source: Source) -> Source:
    """The same set with its labels, numbers [N, K], as soft labels; the label of an image is its most probable class.

    Errors: DataError for labels that are not numbers of at least 0, one of them above it.
    """
    soft = replace(source)
    for name, split in source.splits.items():
        setattr(soft, name, _divided(split, len(source.classes), f"The {name} split of '{source.name}'"))
    return soft


def _divided(split: Split, classes: int, where: str) -> Split:
    labels = split.labels
    if labels.ndim != 2 or labels.shape[1] != classes or labels.dtype.kind not in "fiu":
        raise DataError(
            f"{where}: data.labels=soft needs labels that are numbers {[len(split), classes]}, an image a row and a "
            f"class a column, not {labels.dtype} {list(labels.shape)}."
        )
    numbers = labels.astype(np.float64)
    sums = numbers.sum(axis=1)
    wrong = np.flatnonzero(~(np.isfinite(sums) & (sums > 0) & (numbers >= 0).all(axis=1)))
    if len(wrong):
        raise DataError(
            f"{where}: the soft label of {split.name(wrong[0])} is {numbers[wrong[0]].tolist()[:20]}. It needs finite "
            "numbers of at least 0, one of them above it."
        )
    shares = (numbers / sums[:, None]).astype(np.float32)
    return replace(split, labels=numbers.argmax(axis=1), soft=shares)
