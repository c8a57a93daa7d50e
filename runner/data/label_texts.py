"""What lists and shards have for a label: a name, several of them, a 0 or 1 for each class, or shares."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from ..errors import DataError
from ..terminal import counted
from .classes import BETWEEN, BLANKS

#: Values that say whether an image has a label.
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
VALUE = r"(?:[-\d. \t]*|[ \t]*(?:true|false)[ \t]*)"
#: What is meant as a 0 or 1 for each class, also if it is damaged.
LIKE_VECTOR = re.compile(rf"{VALUE}(?:,{VALUE})+", re.IGNORECASE)


def single(text: str) -> list[str]:
    """The labels that are joined with `BETWEEN`."""
    return [label for label in text.split(BETWEEN) if label]


def separate(text: str, separator: str | None) -> str:
    """The labels between separators, joined with `BETWEEN`.

    A text without a separator, or of a list whose labels are joined already, is returned as it is.
    """
    parts = text.split(separator) if separator and BETWEEN not in text else [text]
    return BETWEEN.join(part.strip(BLANKS) for part in parts if part.strip(BLANKS)) if len(parts) > 1 else text


def of_list(values: Sequence[object]) -> str | None:
    """The labels in a list, joined with `BETWEEN`, of an empty one `BETWEEN`; missing values are left out.

    Zeros and ones may be truth values and fractions. None for a list of anything but names and whole numbers.
    """
    labels = []
    for value in values:
        match value:
            case str():
                labels.append(value.strip(BLANKS))
            case bool() | int():
                labels.append(str(int(value)))
            case float() if value.is_integer():
                labels.append(str(int(value)))
            case None:
                pass
            case float() if math.isnan(value):
                pass
            case _:
                return None
    return BETWEEN.join(filter(None, labels)) or BETWEEN


def shares(values: Sequence[str]) -> str | None:
    """The numbers of a soft label, joined; None unless they are finite, at least 0, and one of them above it."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return BETWEEN.join(values) if all(0 <= one < math.inf for one in numbers) and any(numbers) else None


def flagged(values: Sequence[str], names: Sequence[str]) -> str | None:
    """The names whose value is 1, joined with `BETWEEN`; None unless there is a 0 or 1 for each name."""
    flags = [FLAGS.get(value.strip(BLANKS).lower()) for value in values]
    if None in flags or len(flags) != len(names):
        return None
    return BETWEEN.join(name for name, flag in zip(names, flags, strict=True) if flag)


def vectors(texts: Sequence[str], separator: str | None = None) -> list[list[str]] | None:
    """The values of each label if the labels are vectors, a 0 or 1 for each class; None if they are names or numbers.

    At least half of the labels that are not empty have to look like one: `0,1,1`, as in PaddleClas' lists. Values that
    are separated as several labels are, by `separator` or `BETWEEN`, may be numbers of classes: those are vectors only
    if they are zeros and ones of one length, and one of them has a value twice.
    """
    filled = [text for text in texts if text]
    for mark in dict.fromkeys((",", separator, BETWEEN)):
        if mark and 2 * _alike(filled, mark, mark in (separator, BETWEEN)) >= max(len(filled), 1):
            return [text.split(mark) if text else [] for text in texts]
    return None


def _alike(texts: Sequence[str], mark: str, separates_labels: bool) -> int:
    """How many labels look like vectors whose values are separated by `mark`."""
    if not separates_labels:
        return sum(bool(LIKE_VECTOR.fullmatch(text)) for text in texts)
    whole = [entry for entry in (text.split(mark) for text in texts) if len(entry) > 1 and _is_whole(entry)]
    whole = [entry for entry in whole if len(entry) == _length(whole)]
    return len(whole) if any(len(set(entry)) < len(entry) for entry in whole) else 0


def _is_whole(values: Sequence[str]) -> bool:
    return flagged(values, values) is not None


def _length(entries: Sequence[Sequence[str]]) -> int:
    """The most frequent number of values; of equally frequent ones the first."""
    return Counter(map(len, entries)).most_common(1)[0][0]


def vector_names(entries: Sequence[Sequence[str]], names: list[str] | None, where: str) -> list[str]:
    """The classes of vectors: those of `data.label_file`, if there is one, or else their numbers from 0.

    Errors: DataError if the file names another number of classes.
    """
    length = _length([entry for entry in entries if _is_whole(entry)] or [entry for entry in entries if entry])
    if names is not None and len(names) != length:
        raise DataError(
            f"The labels of {where} are {length} values of 0 or 1, and data.label_file names "
            f"{counted(len(names), 'class', 'classes')}."
        )
    return names or [str(number) for number in range(length)]


def not_a_vector(text: str, names: Sequence[str]) -> str:
    """What is said of a damaged vector."""
    shown = text.replace(BETWEEN, ",")
    return f"'{shown[:80]}' is not {len(names)} values of 0 or 1, as most labels are"
