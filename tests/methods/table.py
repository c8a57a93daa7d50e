"""The table of what was found, in a file."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.methods.names import METHODS, MODES, NETWORKS

TABLE = Path(__file__).with_name("methods.csv")
Row = tuple[str, str]
"""Method and network."""


def stored() -> dict[Row, dict[str, str]]:
    """Method and network → mode → what was found."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {(line.pop("method"), line.pop("network")): line for line in csv.DictReader(file)}


def store(rows: dict[Row, dict[str, str]]) -> None:
    """Write the table, in the order of methods and networks."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["method", "network", *MODES], lineterminator="\n")
        writer.writeheader()
        for method in METHODS:
            for network in NETWORKS:
                if (row := rows.get((method, network))) is not None:
                    writer.writerow({"method": method, "network": network} | row)
