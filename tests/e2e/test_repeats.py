"""A sweep over seeds and folds, from the command to MLflow."""

from __future__ import annotations

import pytest

from tests.conftest import TINY, run_command

SWEPT = [*TINY[1:3], "data.limit=120", "data.batch_size=16", "train.epochs=1", "optimizer=sgd", 
         "data.folds=2", "-m", "data.fold=0,1", "train.seed=1", "optimizer.lr=0.05,0.0001", "name=tried",
         "hydra.sweep.dir=sweep"]  # fmt: skip


@pytest.mark.slow
def test_a_sweep_over_folds_says_in_the_terminal_the_report_and_mlflow_what_is_noise(tmp_path):
    from mlflow import MlflowClient

    done = run_command(*SWEPT, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Means    val/student/top1 of optimizer.lr=" in done.stdout
    assert 'id="configurations"' in (tmp_path / "sweep" / "report.html").read_text()
    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "tried"]
    sent = client.search_runs([experiment.experiment_id], "tags.configuration LIKE '%'")
    [summary] = client.search_runs([experiment.experiment_id], "tags.`runner.summary` LIKE '%'")
    assert {run.data.tags["mlflow.parentRunId"] for run in sent} == {summary.info.run_id}
    assert {name for name in summary.data.metrics if name.endswith("/mean")} == {
        "sweep/optimizer.lr-0.05/mean", "sweep/optimizer.lr-0.0001/mean",
    }  # fmt: skip
    assert [run.info.status for run in sent] == ["FINISHED"] * 4
    assert {run.data.tags["configuration"] for run in sent} == {"optimizer.lr=0.05", "optimizer.lr=0.0001"}
    assert all("±" in run.data.tags["configuration.monitored"] for run in sent)
    again = run_command(*SWEPT, "sweep.resume=true", cwd=tmp_path, timeout=400)
    assert again.returncode == 0, again.stderr + again.stdout
    [same] = client.search_runs([experiment.experiment_id], "tags.`runner.summary` LIKE '%'")
    assert (same.info.run_id, same.info.end_time) == (summary.info.run_id, summary.info.end_time)
    journals = [path.read_text() for path in (tmp_path / "sweep").glob("*/journal.jsonl")]
    assert sorted(text.count("configuration.verdict") for text in journals) == [0, 1, 1, 1, 1]
