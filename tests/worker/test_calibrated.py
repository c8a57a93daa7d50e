"""A network that is quantized after training counts as what it is then."""

from __future__ import annotations

import json

import pytest

import runner
from runner.__main__ import command as run_here
from runner.runs import result as results
from runner.runs.journal import RESULT, events
from tests.conftest import INLINE


@pytest.mark.parametrize("monitor", ["top1", "loss"])
def test_runs_are_compared_by_what_the_quantized_network_reaches(tmp_path, monitor, capsys):
    goal = ["train.goal=min"] if monitor == "loss" else []
    words = [*INLINE, "compression=ptq", "compression.quantize.weight_bits=2", f"train.monitor=val/{monitor}", *goal]
    place = tmp_path / "run"
    assert run_here([*words, "deploy.formats=[]", "tracking=none", f"hydra.run.dir={place}"]) == 0
    best = results.read(place / RESULT).best
    capsys.readouterr()
    assert run_here(["eval", str(place), "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[f"student/{monitor}"] == pytest.approx(best, abs=1e-6)
    notes = [event["text"] for event, _ in events(place) if event["event"] == "note"]
    assert any(text.startswith(f"val/student/{monitor} is {best:.4f} after quantization, ") for text in notes)
    assert runner.open(place).result.best == best
