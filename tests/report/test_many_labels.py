"""What a report draws of many labels."""

from __future__ import annotations

import json

from tests.conftest import INLINE, run_inline


def test_curves_of_labels_and_of_all_together_are_drawn(tmp_path):
    done = run_inline(
        *INLINE, "model=mobilenet_v3_small_x0_35", "data=synthetic", "data.labels=many", "loss=bce",
        "deploy.formats=[]", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    part = json.loads((tmp_path / "run" / "per_class.json").read_text())["student"]
    assert part["micro"].keys() == {"roc", "precision_recall"}
    assert run_inline("report", "run", "--output", "page.html", cwd=tmp_path).returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h3>ROC curves") == page.count("<h3>Precision over recall") == 1
    assert page.count("all labels (micro-average)") >= 2
    assert "part with the label over probability" in page
