"""The table of what was found, in a file."""

from __future__ import annotations

from pathlib import Path

from tests.findings import Table
from tests.zoo.names import NAMES

#: The columns are what every network is tried with.
TABLE = Table(
    Path(__file__).with_name("matrix.csv"), ("name",), ("train", "resume", "distil", "export", "qat", "fpgm"),
    tuple((name,) for name in NAMES),
)  # fmt: skip
