"""What every method of compression and distillation does in each mode is what the table says."""

from __future__ import annotations

import importlib.util
import itertools
import os

import pytest

from docs import methods
from tests.conftest import composed
from tests.findings import WORKS, kind
from tests.methods import trial
from tests.methods.names import METHODS, MODES, NETWORKS, overrides
from tests.methods.table import TABLE

STORED = TABLE.read()
INSTALLED = importlib.util.find_spec("paddleclas") is not None
#: `make test-matrix` tries all of them; otherwise one method in each mode.
SOME = {("kd", "efficientnet_lite0", "cls_teacher"), ("lsq", "efficientnet_lite0", "cls_distill"),
        ("taylor", "resnet18", "cls_distill_multiopt"), ("hint", "mobilenet_v3_small_x0_35", "cls"),
        ("qat", "paddleclas/DeiT_tiny_patch16_224", "cls_teacher")}  # fmt: skip
CASES = [
    case for case in itertools.product(METHODS, NETWORKS, MODES)
    if "RUNNER_EVERY_COMBINATION" in os.environ or case in SOME
]  # fmt: skip


def test_the_page_has_the_table_as_it_is():
    assert methods.PAGE.read_text(encoding="utf-8") == methods.page(), "write it: python -m docs.methods"


def test_nothing_in_the_table_fails():
    assert not {row for row, cells in STORED.items() if "failed" in map(kind, cells.values())}


@pytest.mark.parametrize("method", METHODS)
def test_every_combination_is_a_config(method):
    networks = [name for name in NETWORKS if INSTALLED or "paddleclas" not in name]
    for network, mode in itertools.product(networks, MODES):
        composed(*trial.RUN, *overrides(network, mode, method))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of networks that methods begin with."""
    return tmp_path_factory.mktemp("trained")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network", "mode"), CASES)
def test_a_method_does_in_a_mode_what_the_table_says(method, network, mode, folder):
    if network.startswith("paddleclas/") and not INSTALLED:
        pytest.skip("PaddleClas is not installed")
    found = trial.cell(network, mode, method, folder)
    assert kind(found) == kind(STORED.get((method, network), {}).get(mode, WORKS)), found
