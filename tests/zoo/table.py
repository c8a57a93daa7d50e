"""The table of what was found, in a file."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.zoo.names import NAMES

TABLE = Path(__file__).with_name("matrix.csv")
#: What every network is tried with, as columns of the table.
COLUMNS = ("train", "resume", "distil", "export", "qat", "fpgm")
WORKS = "yes"


def stored() -> dict[str, dict[str, str]]:
    """Network → column → what was found."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {line.pop("name"): line for line in csv.DictReader(file)}


def store(rows: dict[str, dict[str, str]]) -> None:
    """Write the table, in the order of `NAMES`."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["name", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"name": name} | rows[name] for name in NAMES if name in rows)
