"""Fills the table with what it lacks, or tries what is named again: `python -m tests.methods [METHOD|NETWORK …]`.

Networks that are named alone are tried with every method that the table lacks for them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from runner.config import networks
from tests import findings
from tests.methods import trial
from tests.methods.names import METHODS, MODES, NETWORKS
from tests.methods.table import TABLE


def main(chosen: list[str]) -> None:
    """Try combinations and keep what was found."""
    if unknown := set(chosen) - {*METHODS, *NETWORKS}:
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. Valid: {', '.join([*METHODS, *NETWORKS])}")
    methods = [name for name in chosen if name in METHODS]
    missing = list(networks.without_paddleclas())
    with tempfile.TemporaryDirectory() as folder:
        for network in [name for name in chosen if name in NETWORKS] or NETWORKS:
            if missing and network.startswith(networks.PADDLECLAS):
                print(f"{network} is left out: {missing[0]}")
                continue
            for method in methods or METHODS:
                if not methods and (method, network) in TABLE.read():
                    continue
                began = time.process_time()
                row = {mode: trial.cell(network, mode, method, Path(folder)) for mode in MODES}
                seconds = time.process_time() - began
                print(f"{method}, {network}: {seconds:.0f} s {findings.differing(row)}", flush=True)
                TABLE.add((method, network), row)


main(sys.argv[1:])
