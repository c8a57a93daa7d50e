"""Integers where images have many labels: networks train, and files are compared label by label."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runner.config import store
from runner.deploy import manifest
from runner.deploy.predict import Deployed
from runner.runs.journal import CONFIG
from runner.worker import finished
from tests.conftest import INLINE, run_inline


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["qat", "ptq"])
def test_integers_decide_labels_as_the_network_does(tmp_path, compression):
    done = run_inline(
        *INLINE, "model=mobilenet_v3_small_x0_35", "data=synthetic", "data.labels=many", "loss=bce",
        f"compression={compression}", "deploy.formats=[onnx]", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    described = manifest.read(tmp_path / "run" / "export")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert described.thresholds == pytest.approx(list(result["thresholds"].values()))
    integers = described.file("model.int8.onnx")
    stage, _ = finished.load_stage(tmp_path / "run", store.read(tmp_path / "run" / CONFIG), "final")
    stage.networks.eval()
    deployed = Deployed(tmp_path / "run" / "export", integers.path)
    agreeing, wrong, count = 0.0, 0.0, 0
    bounds = np.log(deployed.thresholds) - np.log1p(-deployed.thresholds)
    for batch in stage.loaders.evaluation("test"):
        expected = stage.networks["student"](batch.images).numpy() >= bounds
        decided = deployed.engine(batch.images.numpy()) >= bounds
        agreeing += (decided == expected).sum()
        wrong += (decided != batch.labels.numpy()).sum()
        count += decided.size
    # Decisions within rounding of a threshold count as agreeing.
    assert integers.agreement >= agreeing / count - 1e-9
    assert integers.agreement == pytest.approx(agreeing / count, abs=0.1)
    assert integers.hamming_loss == pytest.approx(wrong / count)
    assert integers.top1 is None
    assert result["final"]["int8_hamming_loss"] == pytest.approx(integers.hamming_loss)
    assert "int8_top1" not in result["final"]
