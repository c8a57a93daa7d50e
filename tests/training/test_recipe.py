"""The recipe for a feature loss."""

from __future__ import annotations

from runner.runs.journal import events
from tests.recipes import followed


def test_a_feature_loss_is_one_function_and_one_yaml(tmp_path):
    words = ["mode=cls_distill", "features=same_maps", "features.layers=[conv2,conv4]", "tracking=none"]
    run, _ = followed("A feature loss", tmp_path, *words)
    logged = [event["values"] for event, _ in events(run) if event["event"] == "metrics"]
    terms = [values["train/loss/features/student"] for values in logged if "train/loss" in values]
    assert terms
    assert all(term > 0 for term in terms)
