"""The comparison of what a frozen backbone saves starts, or says what it needs."""

from __future__ import annotations

import pytest

from benchmarks import finetuning
from runner.config import networks


def installed(monkeypatch, *names):
    monkeypatch.setattr(finetuning.importlib.util, "find_spec", lambda name: object() if name in names else None)


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    installed(monkeypatch)
    with pytest.raises(SystemExit, match=r"PyTorch is not installed.*pip install -e '\.\[cpu,bench\]'"):
        finetuning.startable(finetuning.CASES)


@pytest.mark.parametrize(("missing", "left"), [([], 4), (["PaddleClas is not installed."], 3)])
def test_a_network_of_paddleclas_is_left_out_where_that_is_missing(monkeypatch, capsys, missing, left):
    installed(monkeypatch, "torch")
    monkeypatch.setattr(networks, "without_paddleclas", lambda: iter(missing))
    assert len(finetuning.startable(finetuning.CASES)) == left
    assert ("PP-LCNet is left out: PaddleClas is not installed." in capsys.readouterr().err) == bool(missing)


def test_the_peer_is_as_large_as_the_network():
    pytest.importorskip("torch")
    from benchmarks.peers import torch_networks

    count = sum(value.numel() for value in torch_networks.build("paddleclas/PPLCNet_x1_0", 1000).parameters())
    assert count == networks.by_name()["paddleclas/PPLCNet_x1_0"].params
