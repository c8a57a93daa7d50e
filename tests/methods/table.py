"""The table of what was found, in a file."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tests.findings import Table
from tests.methods.names import METHODS, MODES, NETWORKS

TABLE = Table(Path(__file__).with_name("methods.csv"), ("method", "network"), MODES, tuple(product(METHODS, NETWORKS)))
