"""The classes of a data set, from the names of its folders or from the labels in lists and shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import DataError, nearest
from ..terminal import printable

#: Separates the labels of a multi-label image: no name contains it.
BETWEEN = "\0"
#: Whitespace that is stripped from names and labels. Python's own set is larger; file systems allow some of it in
#: names.
BLANKS = " \t\r\n"
#: A number and a name, as in `0 cat` and `0,cat`.
NUMBERED = re.compile(r"(\d{1,9})(?:[ \t]*[,;:=][ \t]*|[ \t]+)(.+)")
#: Most items that a message names.
NAMED = 10


@dataclass
class Problems:
    """Collects everything that is wrong in some files, so that all of it is reported at once."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    """The first problems: where, and what."""

    def add(self, where: str, what: str) -> None:
        """Add a problem."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(f"{where}: {what}")

    def refuse(self, what: str, remedy: str) -> None:
        """Errors: DataError with the first problems and their total number, if there are any."""
        if self.count:
            more = [f"… and {self.count - len(self.first)} more"] if self.count > len(self.first) else []
            lines = "\n  ".join([*self.first, *more])
            raise DataError(f"{self.count:,} {what}:\n  {lines}\n{remedy}")


def listed(names: Iterable[str], count: int = NAMED) -> str:
    """Comma-separated names; of many only the first ones, and how many others there are."""
    names = list(names)
    return ", ".join(map(printable, names[:count])) + (f" and {len(names) - count} more" if len(names) > count else "")


def refuse_foreign(classes: Mapping[str, Iterable[str]], where: str, remedy: str) -> None:
    """Errors: DataError if a split has classes that `train` does not have; it names both lists."""
    trained = dict.fromkeys(classes["train"])
    for split, names in classes.items():
        if foreign := [name for name in names if name not in trained]:
            hint = nearest(foreign[0], trained) if len(foreign) == 1 else ""
            raise DataError(
                f"The {split} split {where} has classes that the training images do not have: "
                f"{listed(foreign)}.{hint}\n  train: {listed(trained, 20)}\n  {split}: {listed(names, 20)}\n{remedy}"
            )


def is_number(label: str) -> bool:
    """Whether a label is a number, which may be that of a class; Python converts no text of thousands of digits."""
    return label.isdecimal() and len(label) < 1000


def numbers(
    labels: Mapping[str, Iterable[str]], class_names: list[str] | None, where: str, trained_classes: Sequence[str] = ()
) -> tuple[list[str], dict[str, int]]:
    """(class names, label → class index) for the labels that occur in the splits.

    Without `class_names` the training labels are the names, sorted as text, or as numbers if all are numbers. With
    them, a label is a name or, if every label is an integer, an index; other labels are absent from the result. Where
    networks are only evaluated, `trained_classes` are those that they know, and any labels are accepted. Errors:
    DataError for a label that does not occur in training, for a single class, and where no image has a label.
    """
    every = dict.fromkeys(label for split in labels.values() for label in split)
    if not every:
        raise DataError(f"No image {where} has a label. Add labels, or name the right column: data.label_column=NAME")
    if class_names is None:
        if not trained_classes:
            refuse_foreign(labels, where, "Fix the labels, or name the classes in a file: data.label_file=FILE")
        names = set(every)
        classes = sorted(names, key=lambda name: (int(name), name)) if all(map(is_number, names)) else sorted(names)
        if len(classes) < 2 and not trained_classes:
            raise DataError(f"The training images {where} have one class, '{classes[0]}', and a network needs two.")
        return classes, {name: number for number, name in enumerate(classes)}
    places = {name: number for number, name in enumerate(class_names)}
    if any(label not in places for label in every) and all(map(is_number, every)):
        return class_names, {label: int(label) for label in every if int(label) < len(class_names)}
    return class_names, {label: places[label] for label in every if label in places}


def read_names(text: str, path: str) -> list[str]:
    """Class names from a text with one a line, or with lines `number name` for the numbers 0…K-1.

    Errors: DataError for missing or duplicate numbers or names, and if only some lines seem to have numbers.
    """
    lines = [line.strip(BLANKS) for line in re.split(r"\r\n|\r|\n", text) if line.strip(BLANKS)]
    numbered = [(int(match[1]), match[2]) for match in map(NUMBERED.fullmatch, lines) if match]
    _refuse_odd_numbers(lines, [number for number, _ in numbered], path)
    names = [name for _, name in sorted(numbered)] if len(numbered) == len(lines) else lines
    if len(names) < 2 or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        what = f"names '{twice}' twice" if twice else f"has {len(names)} lines"
        raise DataError(f"{path} {what}: it must name two or more classes, each once, as `0 cat` or `cat` a line.")
    return names


def _refuse_odd_numbers(lines: list[str], numbers: list[int], path: str) -> None:
    """Errors: DataError for lines whose numbers would be names, or names of other classes."""
    last, count = len(lines) - 1, len(numbers)
    if count == len(lines) and sorted(numbers) != list(range(count)):
        raise DataError(
            f"{path}: its {count} lines begin with numbers that are not 0 to {last}. Write `0 NAME`, `1 NAME`."
        )
    if len(lines) / 2 <= count < len(lines) and 0 in numbers and len(set(numbers)) == count and max(numbers) <= last:
        odd = next(line for line in lines if not NUMBERED.fullmatch(line))
        raise DataError(f"{path}: '{odd}' has no number before the name, as other lines have. Give each one, or none.")
    behind = [int(match[1]) for match in map(re.compile(r".*[ \t,;:=](\d{1,9})").fullmatch, lines) if match]
    if not count and behind != list(range(len(lines))) and sorted(behind) == list(range(len(lines))):
        raise DataError(f"{path}: its lines end with numbers that are in another order. Put them first: `0 cat`.")
