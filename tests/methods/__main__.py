"""Fills the table with what it lacks, or tries what is named again: `python -m tests.methods [METHOD …]`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from runner.config import networks
from tests.methods import table, trial
from tests.methods.names import METHODS, MODES, NETWORKS


def main(chosen: list[str]) -> None:
    """Try combinations and keep what was found."""
    missing = list(networks.without_paddleclas())
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            if missing and network.startswith(networks.PADDLECLAS):
                print(f"{network} is left out: {missing[0]}")
                continue
            for method in chosen or METHODS:
                if not chosen and (method, network) in table.stored():
                    continue
                began = time.process_time()
                row = {mode: trial.cell(network, mode, method, Path(folder)) for mode in MODES}
                others = {mode: text for mode, text in row.items() if text != trial.WORKS}
                print(f"{method}, {network}: {time.process_time() - began:.0f} s {others}", flush=True)
                table.store(table.stored() | {(method, network): row})


main(sys.argv[1:])
