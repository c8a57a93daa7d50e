"""A search that begins with what earlier sweeps found: what compares is told to it, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from runner import config as cfg
from runner.cli import compose, search, spaces, warm_start
from runner.cli.config_dir import config_dir
from runner.config import store
from runner.errors import ConfigError
from runner.runs import sweep
from runner.runs.journal import CONFIG, OVERRIDES, RESULT, SWEEP, Journal

pytest.importorskip("optuna")
SPACE = {
    "optimizer.lr": spaces.Dimension((), 0.001, 0.1, log=True),
    "loss": spaces.Dimension(("cross_entropy", "label_smoothing")),
    "train.epochs": spaces.Dimension((), 2, 8, step=2, integer=True),
    "optimizer.lr_scale@backbone.*": spaces.Dimension((), 0, 1),
}


@pytest.fixture
def composed():
    """What Hydra composes of some overrides."""

    def make(*overrides):
        compose.register()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return hydra_compose("config", list(overrides))

    return make


@pytest.fixture
def earlier(tmp_path, composed):
    """A sweep whose jobs had some overrides and came to some values; None: they failed."""

    def make(*jobs):
        folder = tmp_path / "earlier"
        folder.mkdir(exist_ok=True)
        (folder / SWEEP).write_text(json.dumps({"id": "x", "overrides": [], "shared": []}))
        for number, (overrides, value) in enumerate(jobs):
            job = folder / str(number)
            job.mkdir()
            store.write(store.from_composition(composed(*overrides)), job / CONFIG)
            (job / OVERRIDES).write_text(json.dumps(overrides))
            journal = Journal(job)
            journal.append("started")
            journal.metrics(5, 1, {"val/student/top1": 0.5})
            journal.append("ended", status="FAILED" if value is None else "FINISHED", reason="", exit_code=0)
            if value is not None:
                monitor = store.read(job / CONFIG).train.monitor
                content = {
                    "final": {"top1": value}, "test": {}, "monitor": monitor, "best": value, "seconds": 1.0,
                    "progress": {"step": 1, "best_step": 1},
                }  # fmt: skip
                (job / RESULT).write_text(json.dumps(content))
        return folder

    return make


MANY = ["data=files", "data.train=a.csv", "data.labels=many", "data.label_columns=[a,b]", "loss=bce"]
GOOD = ["optimizer.lr=0.01", "loss=label_smoothing", "train.epochs=4", "++optimizer.lr_scale={backbone.*:0.5}"]


def test_a_run_is_a_trial_with_its_values_of_the_space(earlier, composed):
    found = warm_start.trials(earlier((GOOD, 0.75)), composed(), cfg.Optuna(), SPACE)
    assert not found.left_out
    assert not found.differing
    [trial] = found.trials
    assert trial.params == {
        "optimizer.lr": 0.01, "loss": "label_smoothing", "train.epochs": 4, "optimizer.lr_scale@backbone.*": 0.5,
    }  # fmt: skip
    assert trial.value == 0.75


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (["data.folds=5", "data.fold=3"], ["data.folds=5", "data.fold=0"], "data.fold is 0, not 3"),
        ([], ["data.test_fraction=0.3"], "data.test_fraction is 0.3, not 0.2"),
        (
            ["data=files", "data.train=a", "data.group_column=patient"], ["data=files", "data.train=a"],
            "data.group_column is None, not patient",
        ),
        (["data=files", "data.train=a"], ["data=files", "data.train=b"], "data.train is b, not a"),
        (["data=files", "data.train='~/a'"], ["data=files", f"data.train={Path.home()}/a"], None),
        (["data.batch_size=32", "data.sampler=balanced"], [], None),
    ],
)  # fmt: skip
def test_runs_on_other_images_are_left_out(earlier, composed, ours, theirs, reason):
    found = warm_start.trials(earlier(([*GOOD, *theirs], 0.75)), composed(*ours), cfg.Optuna(), SPACE)
    assert list(found.left_out) == ([reason] if reason else [])


def test_runs_on_images_with_many_labels_compare_by_the_metric_that_these_monitor(earlier, composed):
    folder = earlier(([*GOOD[:1], *MANY], 0.75))
    space = {"optimizer.lr": SPACE["optimizer.lr"]}
    found = warm_start.trials(folder, composed(*MANY), cfg.Optuna(), space)
    assert [trial.value for trial in found.trials] == [0.75], found.left_out


@pytest.mark.parametrize("words", [[], ["train.monitor=val/loss", "train.goal=min"], MANY, [*MANY, "train.topk=3"]])
def test_a_composition_whose_other_parts_are_unknown_has_the_monitor_of_its_runs(composed, words):
    assert store.train_of(composed(*words)) == store.from_composition(composed(*words)).train


def test_other_keys_in_which_earlier_runs_differ_are_named(earlier, composed, tmp_path, capsys):
    folder = earlier((GOOD, 0.75), ([*GOOD, "model=resnet18", "mode=cls_distill", "name=x", "augment.flip=true"], 0.5))
    found = warm_start.trials(folder, composed(), cfg.Optuna(), SPACE)
    assert len(found.trials) == 2
    assert dict(found.differing) == {"model": 1, "mode": 1, "mimic": 1, "augment.flip": 1}
    settings = cfg.Sweep(optuna=cfg.Optuna(), warm_start=[str(folder)])
    (tmp_path / "new").mkdir()
    search.Search(tmp_path / "new", settings, cfg.Train(), SPACE, []).begin_with(composed())
    assert "They differ from it in: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "value", "reason"),
    [
        ("optimizer.lr=0.5", 0.7, "optimizer.lr=0.5 is not in the space"),
        ("train.epochs=3", 0.7, "train.epochs=3 is not in the space"),
        ("loss=focal", 0.7, "loss=focal is not among the choices"),
        ("++optimizer.lr_scale={}", 0.7, "no number for optimizer.lr_scale@backbone.*"),
        ("data=synthetic", 0.7, "data.kind is synthetic, not digits"),
        ("train.monitor=val/loss", 0.7, "train.monitor=val/loss"),
        ("train.seed=3", None, "status FAILED"),
        ("train.seed=3", float("nan"), "the monitored metric is not a number"),
    ],
)
def test_what_does_not_compare_is_left_out_with_the_reason(earlier, composed, changed, value, reason):
    key = changed.partition("=")[0]
    overrides = [*(text for text in GOOD if not text.startswith(key)), changed]
    found = warm_start.trials(earlier((overrides, value), (GOOD, 0.5)), composed(), cfg.Optuna(), SPACE)
    assert [trial.value for trial in found.trials] == [0.5], found.left_out
    [(said, count)] = found.left_out.items()
    assert reason in said
    assert count == 1


def test_a_run_without_a_cost_that_is_minimized_is_left_out_with_the_reason(earlier, composed):
    search = cfg.Optuna(minimize=[cfg.Cost.size_mb])
    found = warm_start.trials(earlier((GOOD, 0.5)), composed(), search, SPACE)
    assert not found.trials
    assert dict(found.left_out) == {"no size_mb": 1}


def test_a_point_beside_its_rounding_is_the_point(earlier, composed):
    space = {"optimizer.weight_decay": spaces.Dimension((), 0.0, 0.3, step=0.1)}
    folder = earlier((["optimizer.weight_decay=0.30000000000000004"], 0.75), (["optimizer.weight_decay=0.31"], 0.5))
    found = warm_start.trials(folder, composed(), cfg.Optuna(), space)
    assert [trial.params for trial in found.trials] == [{"optimizer.weight_decay": 0.3}]
    assert list(found.left_out) == ["optimizer.weight_decay=0.31 is not in the space"]


def test_what_optuna_does_not_take_is_left_out(earlier, composed):
    space = {"optimizer.lr": spaces.Dimension((), 1, 8, log=True, integer=True)}
    found = warm_start.trials(earlier((["optimizer.lr=2.5"], 0.75)), composed(), cfg.Optuna(), space)
    assert not found.trials
    assert "it does not fit the space" in next(iter(found.left_out))


def test_a_search_begins_with_them_once_and_counts_only_its_own_jobs(earlier, composed, tmp_path, capsys):
    folder = earlier((GOOD, 0.75), (GOOD, None))
    directory = tmp_path / "new"
    directory.mkdir()
    settings = cfg.Sweep(optuna=cfg.Optuna(trials=3), warm_start=[str(folder), str(folder)])
    for _ in range(2):
        one = search.Search(directory, settings, cfg.Train(), SPACE, [])
        one.begin_with(composed())
    assert [trial.value for trial in one.study.trials] == [0.75]
    said = capsys.readouterr().out
    assert "the search begins with 1 of its jobs. Left out: 1 (status FAILED)" in said

    class Launcher:
        def launch(self, jobs, initial_job_idx):
            launched.append(initial_job_idx)
            return []

    launched = []
    one.run(Launcher(), 1)
    assert launched == [0, 1, 2]
    assert sweep.jobs(directory) == []


def test_a_folder_that_is_no_sweep_is_refused(tmp_path, composed):
    with pytest.raises(ConfigError, match="not the folder of a sweep"):
        warm_start.trials(tmp_path, composed(), cfg.Optuna(), SPACE)
