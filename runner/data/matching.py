"""Matching classes by name: labels of the images are renumbered to the order of the weights' classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ..errors import DataError
from ..terminal import word_for
from .classes import listed
from .splits import Source


class ClassMismatch(Enum):
    """What to do if images have other classes than weights."""

    refused = "refused"
    """Refuse them: both must have the same classes."""
    subset = "subset"
    """Accept images that lack some of the classes."""
    ignored = "ignored"
    """Ignore the weights' classes: the images keep their own."""


@dataclass(frozen=True)
class ExpectedClasses:
    """The classes that weights were trained on."""

    names: list[str]
    """In the order of the logits."""
    origin: str
    """Where the weights are from."""
    mismatch: ClassMismatch = ClassMismatch.refused
    remedy: str = "Use the images that the weights were trained on, or give the classes the same names."
    """What to do about other classes."""


def match(source: Source, expected: ExpectedClasses) -> Source:
    """The same images, their labels in the order of the weights' classes.

    Classes that the images lack come last in their own order. Errors: DataError naming both lists if the classes differ
    by more than `expected.mismatch` allows.
    """
    place, own = {name: label for label, name in enumerate(expected.names)}, set(source.classes)
    foreign = [name for name in source.classes if name not in place]
    missing = [name for name in expected.names if name not in own]
    if foreign or (missing and expected.mismatch is not ClassMismatch.subset):
        if expected.mismatch is ClassMismatch.ignored:
            return source
        raise DataError(
            f"The classes of '{source.name}' are not those of {expected.origin}:"
            + (
                f" they lack {listed(foreign)}."
                if foreign
                else f" {listed(missing)} {word_for(len(missing), 'is', 'are')} missing."
            )
            + f"\n  images:  {listed(source.classes, 20)}\n  weights: {listed(expected.names, 20)}\n{expected.remedy}"
        )
    places = np.array([place[name] for name in source.classes], dtype=np.int64)
    renamed = replace(source, classes=list(expected.names), own_order=[*source.own_order, *missing])
    for name, split in source.splits.items():
        labels = _numbered(split.labels, places, len(expected.names))
        soft = None if split.soft is None else _numbered(split.soft, places, len(expected.names))
        setattr(renamed, name, replace(split, labels=labels, soft=soft))
    return renamed


def _numbered(labels: np.ndarray, places: np.ndarray, classes: int) -> np.ndarray:
    if labels.ndim == 1:
        return places[labels]
    rows = np.zeros((len(labels), classes), labels.dtype)
    rows[:, places] = labels
    return rows
