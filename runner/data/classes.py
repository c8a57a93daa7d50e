"""Which classes a set has, from what its folders, lists or shards call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import DataError, nearest

#: Between the labels of one picture, where it has several: no name has one.
BETWEEN = "\0"
#: What is no part of a name or label at its ends. Python knows more blanks, some of which file systems allow.
BLANKS = " \t\r\n"
#: How many of many things a message names.
NAMED = 10


@dataclass
class Problems:
    """Everything that is wrong in some files, so that all of it is told at once."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    """The first ones: where, and what."""

    def add(self, where: str, what: str) -> None:
        """Note one thing."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(f"{where}: {what}")

    def refuse(self, what: str, remedy: str) -> None:
        """Errors: DataError with the first of them and how many there are, if there are any."""
        if self.count:
            more = [f"… and {self.count - len(self.first)} more"] if self.count > len(self.first) else []
            lines = "\n  ".join([*self.first, *more])
            raise DataError(f"{self.count:,} {what}:\n  {lines}\n{remedy}")


def listed(names: Iterable[str], count: int = NAMED) -> str:
    """Names with commas between; of many the first ones and how many others there are."""
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def refuse_foreign(classes: Mapping[str, Iterable[str]], where: str, remedy: str) -> None:
    """Errors: DataError where a split has classes that `train` does not have; it names both lists."""
    trained = dict.fromkeys(classes["train"])
    for split, names in classes.items():
        if foreign := [name for name in names if name not in trained]:
            hint = nearest(foreign[0], trained) if len(foreign) == 1 else ""
            raise DataError(
                f"The {split} split {where} has classes that the training images do not have: "
                f"{listed(foreign)}.{hint}\n  train: {listed(trained, 20)}\n  {split}: {listed(names, 20)}\n{remedy}"
            )


def numbers(
    labels: Mapping[str, Iterable[str]], class_names: list[str] | None, where: str, trained_classes: Sequence[str] = ()
) -> tuple[list[str], dict[str, int]]:
    """(names of the classes, label → number of its class) of the labels that the splits have.

    Without `class_names` the training labels are the names, sorted as text, or as numbers where all are numbers. With
    them, a label is a name, or, where every label is a whole number, the place of one; labels that are neither are
    absent from the result. Where networks are only measured, `trained_classes` are those that they know, and any labels
    will do. Errors: DataError for a label that training does not have, and for one class alone.
    """
    every = dict.fromkeys(label for split in labels.values() for label in split)
    if class_names is None:
        if not trained_classes:
            refuse_foreign(labels, where, "Mend the labels, or name the classes in a file: data.label_file=FILE")
        names = set(every)
        classes = sorted(names, key=lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else sorted(names)
        if len(classes) < 2 and not trained_classes:
            raise DataError(f"The training images {where} have one class, '{classes[0]}', and a network needs two.")
        return classes, {name: number for number, name in enumerate(classes)}
    places = {name: number for number, name in enumerate(class_names)}
    if any(label not in places for label in every) and all(label.isdecimal() for label in every):
        return class_names, {label: int(label) for label in every if int(label) < len(class_names)}
    return class_names, {label: places[label] for label in every if label in places}


def read_names(text: str, path: str) -> list[str]:
    """Names of the classes from a text with one a line, or with lines `number name` for the numbers 0…K-1.

    Errors: DataError where numbers or names are missing or stand twice.
    """
    lines = [line.strip(BLANKS) for line in text.split("\n") if line.strip(BLANKS)]
    numbered = [re.fullmatch(r"(\d+)[ \t]+(.+)", line) for line in lines]
    names = lines
    if lines and all(numbered):
        pairs = sorted((int(match[1]), match[2]) for match in numbered if match)
        names = [name for _, name in pairs]
        if [number for number, _ in pairs] != list(range(len(pairs))):
            raise DataError(f"{path}: its {len(pairs)} lines begin with numbers that are not 0 to {len(pairs) - 1}.")
    if len(names) < 2 or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        what = f"names '{twice}' twice" if twice else f"has {len(names)} lines"
        raise DataError(f"{path} {what}: it is to name two classes or more, each once, as `0 cat` or `cat` a line.")
    return names
