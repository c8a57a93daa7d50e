"""Tables of what was tried and what came of it: in a file, and with numbered reasons on a page."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runner.deploy.manifest import ExportedFile

#: What a cell says of something that works; others begin with `refused: ` or `failed: `.
WORKS = "yes"
Name = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A CSV file in which a row has a name of one or more parts, and a text for each of some columns."""

    path: Path
    parts: tuple[str, ...]
    columns: tuple[str, ...]
    order: tuple[Name, ...]
    """Names that it can have, in the order of its rows."""

    def read(self) -> dict[Name, dict[str, str]]:
        """Name → column → text; empty if there is no file."""
        if not self.path.exists():
            return {}
        with self.path.open(encoding="utf-8", newline="") as file:
            return {tuple(line.pop(part) for part in self.parts): line for line in csv.DictReader(file)}

    def add(self, name: Name, row: dict[str, str]) -> None:
        """Put a row into the file, in the place of one of its name."""
        rows = self.read() | {name: row}
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*self.parts, *self.columns])
            writer.writerows([*name, *(rows[name][column] for column in self.columns)] for name in self.order
                             if name in rows)  # fmt: skip


#: Signal-to-noise ratio of the logits of a float network's files in dB, at least: they have 57 and more, and 86 where
#: logits are not of thousands, as a few networks that were never trained give (EfficientNetV2 in OpenVINO).
FLOAT_DB = 50.0


def unfaithful(files: list[ExportedFile], least: float = FLOAT_DB) -> str:
    """Which of the files that engines run are not the trained network, by their ratio in dB; empty if all are."""
    compared = [file for file in files if file.engine]
    if not compared:
        return "there is no file that an engine runs"
    far = [file for file in compared if file.snr_db is None or not file.snr_db >= least]
    return ", ".join(f"{file.path} in {file.engine} is not the trained network: {file.snr_db} dB" for file in far)


def differing(row: dict[str, str]) -> dict[str, str]:
    """Column → text of what does not work."""
    return {column: text for column, text in row.items() if text != WORKS}


def kind(text: str) -> str:
    """`yes`, `refused` or `failed`."""
    return text.partition(":")[0]


@dataclass
class Reasons:
    """Why things do not work, each once, numbered from 1."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """The number of the reason that a cell gives."""
        reason = text.partition(": ")[2]
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1

    def lines(self) -> Iterable[str]:
        """A numbered list in Markdown."""
        return (f"{number}. {reason}" for number, reason in enumerate(self.texts, 1))
