"""What networks that others designed can do is what the table says."""

from __future__ import annotations

import importlib.util
import os

import pytest

from docs import models
from tests.findings import kind
from tests.zoo import matrix
from tests.zoo.names import NAMES
from tests.zoo.table import TABLE

STORED = TABLE.read()
INSTALLED = importlib.util.find_spec("paddleclas") is not None
#: `make test-matrix` tries all of them.
SOME = ("mobilenet_v2", "paddleclas/PPLCNet_x0_25", "paddleclas/DeiT_tiny_patch16_224")


def test_the_page_has_the_table_as_it_is():
    assert models.PAGE.read_text(encoding="utf-8") == models.page(), "write it: python -m docs.models"


def test_nothing_in_the_table_fails():
    assert not {name: row for name, row in STORED.items() if "failed" in map(kind, row.values())}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for (name,) in STORED if "RUNNER_EVERY_COMBINATION" in os.environ or name in SOME]
)
def test_a_network_can_do_what_the_table_says(name):
    if name.startswith("paddleclas/") and not INSTALLED:
        pytest.skip("PaddleClas is not installed")
    found = matrix.row(name, NAMES[name])
    assert list(map(kind, found.values())) == [kind(STORED[name,][column]) for column in found], found
