"""Fills the table with what it does not have, or with the networks that are named: `python -m tests.zoo [NAME …]`."""

from __future__ import annotations

import sys
import time

from tests import findings
from tests.zoo import matrix
from tests.zoo.names import NAMES
from tests.zoo.table import TABLE


def main(names: list[str]) -> None:
    """Try networks and keep what was found."""
    found = TABLE.read()
    for name in names or [name for name in NAMES if (name,) not in found]:
        began = time.process_time()
        row = matrix.row(name, NAMES[name])
        print(f"{name}: {time.process_time() - began:.0f} s {findings.differing(row)}", flush=True)
        TABLE.add((name,), row)


main(sys.argv[1:])
