"""Searches by Optuna: typed, undisturbed by failing jobs, continued where they were."""

from __future__ import annotations

import json
import signal

import pytest
import yaml

from runner import runs
from runner.runs import sweep
from runner.runs.journal import events
from tests.conftest import TINY
from tests.e2e.processes import has_logged, run, start, wait_until

SEARCH = [*TINY, "data=synthetic", "tracking=none", "-m", "+sweep/optuna=optimizer", "hydra.sweep.dir=sweep"]


def chosen(folder):
    """Job's number → what the search chose for it."""
    found = {}
    for path in folder.glob("sweep/*/overrides.yaml"):
        said = [text for text in yaml.safe_load(path.read_text()) if text.startswith(("optimizer.", "loss="))]
        found[int(path.parent.name.partition("_")[0])] = said
    return found


def test_a_search_varies_its_space_and_names_the_best(tmp_path):
    done = run(*SEARCH, "sweep.optuna.trials=3", "hydra/launcher=joblib", "sweep.optuna.parallel=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = chosen(tmp_path)
    assert sorted(found) == [0, 1, 2]
    assert all([text.partition("=")[0] for text in said] == ["optimizer.lr", "optimizer.weight_decay", "loss"]
               for said in found.values())  # fmt: skip
    assert len({said[0] for said in found.values()}) == 3
    results = {path.parent.name: json.loads(path.read_text())["best"] for path in tmp_path.glob("sweep/*/result.json")}
    best = max(sorted(results), key=results.get)
    assert f"Best     {best.partition('_')[0]}, val/student/top1 {results[best]:.4f}: python -m runner" in done.stdout
    assert "optuna" not in done.stderr


def test_jobs_that_fail_do_not_end_a_search(tmp_path):
    done = run(*SEARCH, "model.freeze=[nothing],[conv1]", "sweep.optuna.trials=5", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.count("FINISHED") + done.stdout.count("FAILED") == 5
    assert done.stdout.count("FAILED") >= 1
    assert "Traceback" not in done.stderr


def test_a_search_of_which_every_job_fails_says_why(tmp_path):
    done = run(*SEARCH, "model.freeze=[nothing]", "sweep.optuna.trials=2", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.count("'nothing' matches no layer") == 4
    assert "Traceback" not in done.stderr


def test_an_interrupted_search_goes_on_with_the_choices_it_would_have_made(tmp_path):
    slow = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=40",
            "schedule.warmup_epochs=0", "train.epochs=2", "train.log_every=1", "deploy.formats=[]", "tracking=none",
            "-m", "+sweep/optuna=optimizer", "sweep.optuna.trials=3"]  # fmt: skip
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    undisturbed.mkdir()
    stopped.mkdir()
    assert run(*slow, "hydra.sweep.dir=sweep", cwd=undisturbed).returncode == 0
    command = start(*slow, "hydra.sweep.dir=sweep", cwd=stopped)
    wait_until(lambda: any(has_logged(path, 2) for path in stopped.glob("sweep/1_*")), process=command)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)
    assert command.returncode == 130
    assert len(chosen(stopped)) == 2
    again = run(*slow, "hydra.sweep.dir=sweep", "sweep.resume=true", cwd=stopped)
    assert again.returncode == 0, again.stdout + again.stderr
    assert chosen(stopped) == chosen(undisturbed)
    [interrupted] = stopped.glob("sweep/1_*")
    assert [event["event"] for event, _ in events(interrupted)].count("resumed") == 1


@pytest.mark.slow
def test_a_search_whose_command_is_killed_loses_no_trial_and_repeats_none(tmp_path):
    words = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=40",
             "schedule.warmup_epochs=0", "train.epochs=2", "train.log_every=1", "deploy.formats=[]", "tracking=none",
             "-m", "+sweep/optuna=default", "optimizer.lr=tag(log,interval(0.001,0.1))", "sweep.optuna.trials=4",
             "hydra/launcher=joblib", "sweep.optuna.parallel=2", "hydra.sweep.dir=sweep"]  # fmt: skip
    command = start(*words, cwd=tmp_path)
    wait_until(lambda: any(has_logged(path, 2) for path in tmp_path.glob("sweep/2_*")), process=command)
    command.kill()
    command.communicate(timeout=60)
    before = chosen(tmp_path)
    wait_until(lambda: not any(map(runs.is_running, sweep.jobs(tmp_path / "sweep"))))
    again = run(*words, "sweep.resume=true", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(list(tmp_path.glob("sweep/[0-9]*"))) == 4
    assert len({tuple(texts) for texts in chosen(tmp_path).values()}) == 4
    assert before.items() <= chosen(tmp_path).items()
    began = [sum(event["event"] in ("started", "resumed") for event, _ in events(job))
             for job in sweep.jobs(tmp_path / "sweep")]  # fmt: skip
    assert began[:2] == [1, 1]
    assert began[2] == 2


def test_a_search_for_small_and_good_networks_ends_with_a_front(tmp_path):
    done = run(
        *TINY, "data=synthetic", "tracking=none", "-m", "+sweep/optuna=pruning", "sweep.optuna.trials=3",
        "++sweep.optuna.space.compression={choices:[fpgm]}", "hydra.sweep.dir=sweep", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    finals = {
        path.parent.name.partition("_")[0]: json.loads(path.read_text())
        for path in tmp_path.glob("sweep/*/result.json")
    }
    smallest = min(finals, key=lambda number: finals[number]["final"]["macs"])
    [line] = [line for line in done.stdout.splitlines() if line.startswith("Pareto")]
    assert "val/student/top1 and macs" in line
    assert smallest in line.rpartition(":")[2]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_a_run_that_falls_behind_ends_early_and_can_go_on(tmp_path, launcher):
    rates = "0.03,0.02,0.025,0.035,1e-9"
    words = ["data=digits", "data.limit=200", "model=custom", "model.target=tests.samples:linear_network",
             "train.epochs=8", "train.threads=1", "train.plots=false", "deploy.formats=[]", "tracking=none",
             "schedule=constant", "-m", f"optimizer.lr={rates}", "hydra.sweep.dir=sweep",
             "sweep.pruner_min_trials=3", *launcher]  # fmt: skip
    done = run(*words, "sweep.pruner=median", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [bad] = tmp_path.glob("sweep/4_*")
    state = runs.state(bad)
    assert state.status == "STOPPED_EARLY", done.stdout + done.stderr
    assert "is worse than the median of" in state.reason
    assert f"{bad.name}: {state.reason}" in done.stdout
    assert "STOPPED_EARLY" in done.stdout
    assert (bad / "checkpoints" / "last").is_file()
    assert not (bad / "result.json").exists()
    assert "STOPPED_EARLY" in (tmp_path / "sweep" / "report.html").read_text()
    steps = [event["step"] for event, _ in events(bad) if event["event"] == "metrics"]
    again = run(*words, "sweep.pruner=median", "sweep.resume=true", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert runs.state(bad).status == "STOPPED_EARLY"
    assert [event["step"] for event, _ in events(bad) if event["event"] == "metrics"] == steps
    whole = run(*words, "sweep.pruner=none", "sweep.resume=true", cwd=tmp_path)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert {runs.state(job).status for job in sweep.jobs(tmp_path / "sweep")} == {"FINISHED"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+sweep/optuna=optimizer"], "add -m"),
        (["-m", "+sweep/optuna=optimizr"], "Did you mean 'optimizer'?"),
        (["-m", "+sweep/optuna=optimizer", "sweep.optuna.trails=3"], "Did you mean sweep.optuna.trials=3?"),
        (["-m", "+sweep/optuna=optimizer", "++sweep.optuna.space={optimizer.lrr:{low:1,high:2}}"], "'optimizer.lr'"),
        (["-m", "+sweep/optuna=default"], "sweep.optuna.space is empty"),
        (["-m", "+sweep/optuna=optimizer", "sweep.optuna.sampler=tpa"], "sampler"),
        (["-m", "+sweep/optuna=pruning", "sweep.pruner=asha"], "sweep.pruner=none"),
        (["-m", "mode=cls", "sweep.pruner=median", "data=digits", "data.val_fraction=0"], "data.val_fraction=0.1"),
        (["-m", "train.seed=1,2", "sweep.pruner=median"], "train.seed"),
        (["-m", "+sweep/optuna=default", "optimizer.lr=tag(log,interval(0,0.1))"], "optimizer.lr must begin above 0"),
        (["-m", "mode=cls", "sweep.max_minutes=1"], "sweep.max_minutes is for searches"),
        (["-m", "+sweep/optuna=optimizer", "optimizer.lr=-1,0.001"], "optimizer.lr=-1.0: must be above 0."),
        (["-m", "experiment=digits/fast,cifar/cifar10_mobilenet", "sweep.pruner=median"], "experiment is varied"),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_its_first_job(tmp_path, words, message):
    done = run(*TINY, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.rglob("journal.jsonl"))


def test_an_engine_that_breaks_before_the_first_job_is_a_failure(tmp_path):
    words = ["hydra/launcher=joblib", "hydra.launcher.batch_size=nonsense", "train.seed=0,1"]
    done = run(*TINY, "data=synthetic", "tracking=none", "-m", *words, cwd=tmp_path)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "hydra/launcher=joblib failed. ValueError" in done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("hydra/launcher=joblib", "sweep"),
        ("hydra/launcher=slurm", "slurm"),
        ("hydra/launcher=submitit_local", "slurm"),
        ("hydra/launcher=ray", "ray"),
        ("+sweep/optuna=pruning", "sweep"),
    ],
)
def test_a_plugin_that_is_not_installed_is_named_with_the_extra_that_brings_it(tmp_path, words, extra):
    away = "import hydra_plugins, sys\nhydra_plugins.__path__ = []\nsys.modules['optuna'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(away)
    done = run(*TINY, "-m", words, "train.seed=0,1", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"pip install -e '.[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
