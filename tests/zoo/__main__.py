"""Fills the table with what it does not have, or with the networks that are named."""

from __future__ import annotations

import sys
import time

from tests.zoo import matrix, table
from tests.zoo.names import NAMES


def main(names: list[str]) -> None:
    """Try networks and keep what was found."""
    rows = table.stored()
    for name in names or [name for name in NAMES if name not in rows]:
        began = time.process_time()
        rows[name] = matrix.row(name, NAMES[name])
        others = {column: text for column, text in rows[name].items() if text != table.WORKS}
        print(f"{name}: {time.process_time() - began:.0f} s {others}", flush=True)
        table.store(table.stored() | {name: rows[name]})


main(sys.argv[1:])
