"""Fills the table with what it lacks, or tries what is named again: `python -m tests.methods [METHOD …]`."""

from __future__ import annotations

import sys
import time

from tests.methods import table, trial
from tests.methods.names import METHODS, MODES, NETWORKS


def main(chosen: list[str]) -> None:
    """Try combinations and keep what was found."""
    for network in NETWORKS:
        for method in chosen or METHODS:
            if not chosen and (method, network) in table.stored():
                continue
            began = time.process_time()
            row = {mode: trial.cell(network, mode, method) for mode in MODES}
            others = {mode: text for mode, text in row.items() if text != trial.WORKS}
            print(f"{method}, {network}: {time.process_time() - began:.0f} s {others}", flush=True)
            table.store(table.stored() | {(method, network): row})


main(sys.argv[1:])
