"""A complete run as lists and reports see it, written by hand."""

from __future__ import annotations

import json

import yaml

from runner.config import store
from runner.runs.journal import Journal

RESULT = {
    "ending": "complete", "final": {"top1": 0.5, "params": 3.0}, "exported": None, "test": {"top1": 0.5},
    "test_images": 2, "monitor": "val/student/top1", "best": 0.5, "epochs": 1, "seconds": 1.0, "device": "cpu",
    "progress": {"step": 2, "epoch": 1, "batch": 0, "best": 0.5, "best_step": 2, "waited": 0, "settled": 2,
                 "unread": {}},
}  # fmt: skip


def a_run(folder, config, name="run"):
    """A complete run as far as lists look at it."""
    run = folder / name
    (run / "checkpoints").mkdir(parents=True)
    store.write(config, run / "config.yaml")
    (run / "overrides.yaml").write_text(yaml.safe_dump(["mode=cls"]))
    journal = Journal(run)
    journal.append("started", command=[])
    journal.append("dataset", name="digits", digest="0", source="digits", profile={"test": 2})
    journal.append("checkpoint", name="step-00000002", better=True)
    journal.append("checkpoint", name="quantized", better=False, final=True)
    journal.append("ended", status="FINISHED", reason="", exit_code=0)
    (run / "result.json").write_text(json.dumps(RESULT))
    known = {"key": "k", "uri": "sqlite:///x.db", "run_id": "0" * 32, "experiment_id": "1", "params_sent": True}
    (run / "mlflow.json").write_text(json.dumps(known | {"offset": 0}))
    part = {"top1": [0.5], "confusion": [[2]]}
    (run / "per_class.json").write_text(json.dumps({"classes": ["cat"], "student": part}))
    (run / "mistakes.json").write_text(json.dumps({"images": 2, "wrong": 0, "worst": []}))
    for pointer, target in (("last", "step-00000002"), ("best", "step-00000002"), ("final", "quantized")):
        (run / "checkpoints" / pointer).write_text(target)
    return run
