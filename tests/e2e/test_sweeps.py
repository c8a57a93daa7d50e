"""Sweeps: every job a process of its own, failures told, resumed, compared in MLflow."""

from __future__ import annotations

import json
import re
import signal
import urllib.parse

import pytest

from runner.runs.journal import events
from tests.conftest import TINY
from tests.e2e.processes import ROOT, has_logged, mlflow_runs, run, start, wait_until

SYNTHETIC = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=40",
             "schedule.warmup_epochs=0", "train.epochs=2", "train.log_every=1", "deploy.formats=[]"]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(folder, sweep's directory, what the command said) of a sweep with failing jobs."""
    folder = tmp_path_factory.mktemp("swept")
    done = run(*TINY, "-m", "mode=cls,cls_distill", "optimizer.lr=0.001,-1", "name=swept", cwd=folder)
    [directory] = (folder / "outputs" / "swept" / "sweeps").iterdir()
    return folder, directory, done


def test_a_failing_job_does_not_stop_the_others_and_the_command_fails(swept):
    _, directory, done = swept
    assert done.returncode == 2
    finished = {path.parent.name for path in directory.glob("*/result.json")}
    assert finished == {"0_mode-cls_optimizer.lr-0.001", "2_mode-cls_distill_optimizer.lr-0.001"}


def test_the_table_has_every_job_with_its_accuracy_or_its_reason(swept):
    _, directory, done = swept
    table = done.stdout[done.stdout.index("Sweep outputs") :]
    for path in directory.glob("*/result.json"):
        top1 = json.loads(path.read_text())["final"]["top1"]
        name = path.parent.name.replace("_", " ", 1)
        assert re.search(rf"{re.escape(name)} +FINISHED +{top1:.4f}", table)
    assert len(re.findall(r"FAILED", table)) == 2
    assert table.count("optimizer.lr=-1.0: must be above 0") == 2
    assert "sweep.resume=true" in table


@pytest.mark.smoke
def test_mlflow_folds_the_sweeps_runs_below_one_summary_and_the_url_compares_exactly_them(swept):
    folder, directory, done = swept
    client, runs = mlflow_runs(f"sqlite:///{folder}/outputs/mlflow.db", "swept")
    sweep_id = json.loads((directory / "sweep.json").read_text())["id"]
    assert {run.data.tags["sweep_id"] for run in runs} == {sweep_id}
    [parent] = {run.data.tags["mlflow.parentRunId"] for run in runs}
    summary = client.get_run(parent)
    assert summary.info.status == "FAILED"
    assert (summary.data.metrics["sweep/finished"], summary.data.metrics["sweep/failed"]) == (2, 2)
    assert parent in re.search(r"Summary +(\S+)", done.stdout)[1]
    url = urllib.parse.unquote(re.search(r"Compare +(\S+)", done.stdout)[1])
    assert set(json.loads(re.search(r"runs=(\[.*?\])", url)[1])) == {run.info.run_id for run in runs}
    assert json.loads(re.search(r"experiments=(\[.*?\])", url)[1]) == [runs[0].info.experiment_id]
    numbers = {run.info.run_name.rpartition("-")[2] for run in runs}
    assert numbers == {"0", "2"}


@pytest.mark.smoke
def test_the_same_sweep_again_is_refused_unless_it_is_resumed(swept):
    folder, directory, _ = swept
    before = sorted(directory.iterdir())
    again = run(*TINY, "-m", "mode=cls,cls_distill", "optimizer.lr=0.001,-1", "name=swept", cwd=folder)
    assert again.returncode == 2
    assert "sweep.resume=true" in again.stderr
    assert sorted(directory.iterdir()) == before


def test_resuming_a_sweep_trains_no_finished_job_again(swept):
    folder, directory, _ = swept
    journals = {path: path.read_text() for path in directory.glob("*/journal.jsonl") if "lr-1" not in str(path)}
    again = run(
        *TINY, "-m", "mode=cls,cls_distill", "optimizer.lr=0.001,-1", "name=swept", "sweep.resume=true", cwd=folder
    )
    assert again.returncode == 2
    assert again.stdout.count("is complete") == 2
    assert journals == {path: path.read_text() for path in journals}


def test_a_job_whose_process_is_killed_is_told_with_its_log_and_continued_on_resume(tmp_path):
    sweep = [*SYNTHETIC, "-m", "train.seed=0,1", "hydra.sweep.dir=sweep", "loss=custom",
             "loss.target=tests.samples:deadly"]  # fmt: skip
    done = run(*sweep, cwd=tmp_path, env={"KILL_AT_CALL": "8"})
    assert done.returncode == 5
    assert done.stdout.count("SIGKILL") == 4, "when it happens, and in the table at the end, for both jobs"
    assert "log: sweep/1_train.seed-1/train.log" in done.stdout
    again = run(*sweep, "sweep.resume=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("resumed from step-00000005") == 2
    _, runs = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_a_sweep_stopped_by_ctrl_c_shows_its_table_and_goes_on_where_it_was(tmp_path):
    sweep = [*SYNTHETIC, "tracking=none", "-m", "train.seed=0,1", "hydra.sweep.dir=sweep"]
    stopped = start(*sweep, cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "sweep" / "0_train.seed-0", 2), process=stopped)
    stopped.send_signal(signal.SIGINT)
    said, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "KILLED" in said
    assert not (tmp_path / "sweep" / "1_train.seed-1").exists()
    again = run(*sweep, "sweep.resume=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    starts = [event["event"] for event, _ in events(tmp_path / "sweep" / "0_train.seed-0")]
    assert starts.count("started") == starts.count("resumed") == 1


def test_the_sweeper_is_given_the_monitored_metric_and_no_number_for_a_failed_job(tmp_path):
    done = run(
        *TINY, "-m", "optimizer.lr=0.001,-1,0.002", "tracking=none", "hydra.sweep.dir=sweep",
        "hydra.sweeper._target_=hydra_plugins.recording_sweeper.RecordingSweeper", cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT / 'tests' / 'plugins'}"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    returned = json.loads((tmp_path / "returned.json").read_text())
    best = [json.loads(path.read_text())["best"] for path in sorted((tmp_path / "sweep").glob("*/result.json"))]
    assert [returned[0], returned[2]] == best
    assert returned[1] != returned[1]


@pytest.mark.parametrize(
    "words",
    [
        "data=synthetic optimizer=momentum,rmsprop ++optimizer.momentum=0.5",
        "mode=cls_distill,cls_distill_multiopt mimic=dml mimic.weight=0.5",
    ],
)
def test_keys_that_only_the_swept_choices_have_can_be_set(tmp_path, words):
    done = run(*TINY, "-m", *words.split(), "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FINISHED") == 2


@pytest.mark.smoke
@pytest.mark.parametrize("words", ["--config-dir=.", "hydra.sweep.subdir=x"])
def test_what_a_sweep_does_not_take_is_refused_with_the_remedy(tmp_path, words):
    done = run(*TINY, "-m", "train.seed=0,1", words, cwd=tmp_path)
    assert done.returncode == 2
    assert "not with -m" in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.smoke
def test_a_sweep_that_cannot_be_composed_leaves_no_folder(tmp_path):
    done = run(*TINY, "-m", "mode=cls,nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert not list((tmp_path / "outputs").rglob("*.json"))


def test_the_folder_of_another_sweep_is_not_resumed(tmp_path):
    sweep = [*TINY, "-m", "train.seed=0,1", "tracking=none", "hydra.sweep.dir=sweep"]
    assert run(*sweep, cwd=tmp_path).returncode == 0
    again = run(*sweep, "optimizer=sgd", "sweep.resume=true", cwd=tmp_path)
    assert again.returncode == 2
    assert "holds another sweep" in again.stderr
    assert "train.seed=0,1" in again.stderr


def test_a_job_that_is_refused_keeps_its_result_and_fails_the_command(tmp_path):
    from runner.config import store

    sweep = [*TINY, "-m", "train.seed=0,1", "tracking=none", "hydra.sweep.dir=sweep", "sweep.resume=true"]
    assert run(*sweep, cwd=tmp_path).returncode == 0
    # As if a default had changed since.
    path = tmp_path / "sweep" / "0_train.seed-0" / "config.yaml"
    store.write(store.read(path, ["optimizer.beta1=0.5"]), path)
    again = run(*sweep, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stdout.count("FAILED") == 1
    assert again.stdout.count("optimizer.beta1: the run has 0.5, this command 0.9") == 2
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 2


@pytest.mark.smoke
def test_a_key_that_the_default_choice_does_not_have_is_refused_with_the_remedy(tmp_path):
    done = run(*TINY, "-m", "optimizer=momentum,rmsprop", "optimizer.momentum=0.5", cwd=tmp_path)
    assert done.returncode == 2
    assert "++optimizer.momentum" in done.stderr
    assert not list((tmp_path / "outputs").rglob("*.json"))
