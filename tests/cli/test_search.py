"""A search: every trial once, whatever ends its command, and the same choices as without an end. Jobs are stubs."""

from __future__ import annotations

import json
import time

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus

from runner import config as cfg
from runner.cli import compose, corners, end_of_sweep, search, spaces
from runner.cli.config_dir import choices, config_dir
from runner.cli.sweep import plan_sweep
from runner.errors import ConfigError, Damaged
from runner.runs import study as studies
from runner.runs import sweep
from runner.runs.journal import OVERRIDES, RESULT, SWEEP, Journal

pytest.importorskip("optuna")
SPACE = {
    "x": spaces.Dimension((), 0, 1),
    "y": spaces.Dimension((), 0, 1, step=0.5),
    "kind": spaces.Dimension(("a", "b")),
}
NUMBERS = {key: SPACE[key] for key in "xy"}


class Killed(BaseException):
    """In place of a kill: nothing of the command is done behind it."""


class StubLauncher:
    """Runs jobs at once: the higher x, the better. Some fail, and at some the whole command is killed."""

    def __init__(self, directory, fails=(), killed_before=None, killed_behind=None):
        self.directory, self.fails, self.launched = directory, fails, []
        self.killed_before, self.killed_behind = killed_before, killed_behind

    def launch(self, jobs, initial_job_idx):
        returns = []
        for number, overrides in enumerate(jobs, initial_job_idx):
            if number == self.killed_before:
                raise Killed
            self.launched.append(number)
            made = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            try:
                self.work(self.directory / str(number), overrides, number in self.fails)
            except Exception as error:
                made.status, made.return_value = JobStatus.FAILED, error
            returns.append(made)
            if number == self.killed_behind:
                raise Killed
        return returns

    def work(self, folder, overrides, fails):
        folder.mkdir(exist_ok=True)
        (folder / OVERRIDES).write_text(json.dumps(overrides))
        chosen = dict(text.split("=") for text in overrides)
        journal = Journal(folder)
        journal.append("started")
        value = float(chosen["x"])
        if not fails:
            content = {
                "final": {"macs": value, "top1": value}, "test": {}, "monitor": "val/student/top1", "best": value,
                "seconds": 1.0, "progress": {"step": 1, "best_step": 1},
            }  # fmt: skip
            (folder / RESULT).write_text(json.dumps(content))
        status = "FAILED" if fails else "FINISHED"
        journal.append("ended", status=status, reason="", exit_code=int(fails))


def searched(
    directory, launcher=None, space=SPACE, max_minutes=None, pruner=cfg.Pruner.none, side_by_side=0, **options
):
    """Run a search in a folder. Its study."""
    directory.mkdir(exist_ok=True)
    settings = cfg.Sweep(optuna=cfg.Optuna(**{"trials": 6} | options), max_minutes=max_minutes, pruner=pruner)
    one = search.Search(directory, settings, cfg.Train(), space, ["z=1"])
    one.run(launcher or StubLauncher(directory), side_by_side or one.options.parallel)
    return one.study


def chosen(directory):
    """Job's number → its overrides."""
    return {int(path.parent.name): json.loads(path.read_text()) for path in directory.glob(f"*/{OVERRIDES}")}


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"op_code": 99}', b"null", b"\xff\xfe", b"1", b'{"op_code": 4, "worker_id": "x"}']
)
def test_a_study_that_optuna_cannot_replay_is_damaged_and_never_a_traceback(tmp_path, content):
    (tmp_path / sweep.STUDY).write_bytes(content + b"\n")
    assert studies.load(tmp_path) is None
    with pytest.raises(Damaged, match=r"study\.log is damaged .* Bring it back, or restart the search"):
        studies.create(tmp_path, ["maximize"])


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "nsgaii", "grid"])
def test_every_sampler_chooses_every_job_once_and_the_same_again(tmp_path, sampler):
    space = {"grid": {"x": spaces.Dimension((), 0, 2, integer=True), "y": NUMBERS["y"]}, "cmaes": NUMBERS}
    options = {"sampler": cfg.SearchSampler[sampler], "trials": 12, "parallel": 2, "space": space.get(sampler, SPACE)}
    study = searched(tmp_path / "a", **options)
    searched(tmp_path / "b", **options)
    jobs = chosen(tmp_path / "a")
    assert jobs == chosen(tmp_path / "b")
    assert sorted(jobs) == list(range(9 if sampler == "grid" else 12))
    # A genetic algorithm may keep a parent as it is.
    assert len({tuple(texts) for texts in jobs.values()}) == len(jobs) or sampler == "nsgaii"
    assert all(texts[-1] == "z=1" for texts in jobs.values())
    assert study.best_value == max(float(texts[0].partition("=")[2]) for texts in jobs.values())


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsgaii"])
@pytest.mark.parametrize("moment", [{"killed_before": 4}, {"killed_behind": 4}, {"killed_before": 3}])
def test_a_search_that_was_killed_goes_on_with_the_choices_it_would_have_made(tmp_path, sampler, moment):
    options = {"sampler": cfg.SearchSampler[sampler], "parallel": 2, "trials": 9, "space": NUMBERS}
    searched(tmp_path / "whole", **options)
    directory = tmp_path / "killed"
    with pytest.raises(Killed):
        searched(directory, StubLauncher(directory, **moment), **options)
    study = searched(directory, **options)
    assert chosen(directory) == chosen(tmp_path / "whole")
    assert [trial.user_attrs["job"] for trial in study.trials] == list(range(9))
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)


def test_every_byte_at_which_a_kill_can_tear_the_study_leaves_one_that_goes_on(tmp_path):
    searched(tmp_path / "whole", trials=3)
    content = (tmp_path / "whole" / sweep.STUDY).read_bytes()
    begin = content.index(b'"trial_id":1')
    for length in range(begin, len(content), 97):
        directory = tmp_path / str(length)
        directory.mkdir()
        (directory / sweep.STUDY).write_bytes(content[:length])
        study = searched(directory, trials=4)
        jobs = [trial.user_attrs["job"] for trial in study.trials if trial.state.name == "COMPLETE"]
        assert sorted(jobs) == [0, 1, 2, 3]


def test_a_failed_job_is_done_again_when_the_search_is_resumed_and_counts_once(tmp_path):
    searched(tmp_path, StubLauncher(tmp_path, fails=[1, 4]))
    again = StubLauncher(tmp_path)
    study = searched(tmp_path, again, trials=7)
    assert again.launched == [1, 4, 6]
    assert len(chosen(tmp_path)) == 7
    complete = [trial.user_attrs["job"] for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted(complete) == list(range(7))


def test_a_job_that_was_ended_early_goes_on_when_there_is_no_pruner_any_more(tmp_path):
    class Pruning(StubLauncher):
        def work(self, folder, overrides, fails):
            if folder.name != "2":
                super().work(folder, overrides, fails)
                return
            folder.mkdir()
            journal = Journal(folder)
            journal.append("started")
            for step, value in ((10, 0.5), (20, 0.25)):
                journal.metrics(step, 1, {"val/student/top1": value})
            journal.append("ended", status="STOPPED_EARLY", reason="worse", exit_code=0)

    study = searched(tmp_path, Pruning(tmp_path), pruner=cfg.Pruner.median)
    assert study.trials[2].state.name == "PRUNED"
    assert study.trials[2].intermediate_values == {1: 0.5, 2: 0.25}
    again = StubLauncher(tmp_path)
    searched(tmp_path, again, pruner=cfg.Pruner.median)
    assert again.launched == []
    searched(tmp_path, again)
    assert again.launched == [2]


def test_runs_on_images_with_many_labels_that_were_ended_early_keep_their_scores(tmp_path):
    class Pruning(StubLauncher):
        def work(self, folder, overrides, fails):
            folder.mkdir()
            journal = Journal(folder)
            journal.append("started")
            journal.metrics(10, 1, {"val/student/average_precision": 0.5})
            journal.append("ended", status="STOPPED_EARLY", reason="worse", exit_code=0)

    words = ["+sweep/optuna=optimizer", "sweep.optuna.trials=1", "sweep.pruner=median", "data=files",
             "data.train=a.csv", "data.labels=many", "data.label_columns=[a,b]", "loss=bce"]  # fmt: skip
    compose.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = hydra_compose("config", [*words, f"hydra.sweep.dir={tmp_path}"], return_hydra_config=True)
    search.run(composed, Pruning(tmp_path), words)
    [trial] = studies.load(tmp_path).trials
    assert trial.state.name == "PRUNED"
    assert trial.intermediate_values == {1: 0.5}


def test_a_search_that_is_asked_to_stop_chooses_nothing_more(tmp_path, monkeypatch):
    class Stopping(StubLauncher):
        def work(self, folder, overrides, fails):
            if folder.name == "2":
                sweep.ask_to_stop(self.directory, 15)
                return
            super().work(folder, overrides, fails)

    monkeypatch.setattr(sweep, "is_orphaned", lambda directory: False)
    study = searched(tmp_path, Stopping(tmp_path))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    (tmp_path / sweep.STOP).unlink()
    again = StubLauncher(tmp_path)
    searched(tmp_path, again)
    assert again.launched == [2, 3, 4, 5]


def test_several_goals_end_with_a_front(tmp_path):
    study = searched(tmp_path, minimize=[cfg.Cost.macs], sampler=cfg.SearchSampler.nsgaii)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    # What is better costs more.
    assert len(study.best_trials) == 6


def test_a_job_that_lacks_a_cost_is_a_failed_trial_until_it_has_it(tmp_path, capsys):
    class Lossy(StubLauncher):
        def work(self, folder, overrides, fails):
            super().work(folder, overrides, False)
            content = json.loads((folder / RESULT).read_text())
            content["final"] |= {} if fails else {"size_mb": 2.0}
            (folder / RESULT).write_text(json.dumps(content))

    options = {"minimize": [cfg.Cost.macs, cfg.Cost.size_mb], "sampler": cfg.SearchSampler.nsgaii, "trials": 4}
    for _ in range(2):
        study = searched(tmp_path, Lossy(tmp_path, fails=[0, 2]), **options)
        said = capsys.readouterr().out
        for job in (0, 2):
            assert f"Job {job} finished, but counts as a failed trial: no size_mb" in said
        assert {trial.user_attrs["job"] for trial in study.trials if trial.state.name == "FAIL"} == {0, 2}
    study = searched(tmp_path, Lossy(tmp_path), **options)
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted(trial.user_attrs["job"] for trial in complete) == [0, 1, 2, 3]
    assert all(trial.values[2] == 2.0 for trial in complete)


def test_minutes_of_a_command_that_was_killed_count(tmp_path):
    class Slow(StubLauncher):
        def work(self, folder, overrides, fails):
            super().work(folder, overrides, fails)
            time.sleep(0.1)
            Journal(folder).metrics(1, 1, {"val/student/top1": 0.5})

    options = {"trials": 50, "max_minutes": 0.3 / 60}
    with pytest.raises(Killed):
        searched(tmp_path, Slow(tmp_path, killed_behind=1), **options)
    time.sleep(0.4)
    # Whoever finds a job without an end later adds one.
    Journal(tmp_path / "1").append("ended", status="LOST", reason="", exit_code=5)
    done = Slow(tmp_path)
    searched(tmp_path, done, **options)
    assert 1 <= len(done.launched) <= 2
    nothing = Slow(tmp_path)
    searched(tmp_path, nothing, **options)
    assert nothing.launched == []


def test_a_search_whose_time_ends_with_its_last_trial_is_complete(tmp_path):
    study = searched(tmp_path, StubLauncher(tmp_path), trials=2, max_minutes=1e-9 / 60, side_by_side=2, parallel=2)
    assert studies.used_up(study)
    assert len(chosen(tmp_path)) == 2
    assert end_of_sweep._continuation(tmp_path, has_failed=False) == ""
    line = end_of_sweep._continuation(tmp_path, has_failed=True)
    assert line.startswith(
        "Repeat the command with sweep.resume=true, and a larger sweep.max_minutes than 1.66667e-11,"
    )
    searched(tmp_path, StubLauncher(tmp_path), trials=3, max_minutes=1e-9 / 60)
    both = end_of_sweep._continuation(tmp_path, has_failed=True).splitlines()
    assert ["to continue the search" in both[0], "to run what is missing" in both[1]] == [True, True]


def test_when_time_is_up_no_job_begins_that_the_launcher_would_have_kept_waiting(tmp_path, capsys):
    class Slow(StubLauncher):
        def work(self, folder, overrides, fails):
            super().work(folder, overrides, fails)
            time.sleep(0.2)

    first = Slow(tmp_path)
    options = {"trials": 8, "parallel": 4, "sampler": cfg.SearchSampler.random}
    study = searched(tmp_path, first, max_minutes=0.3 / 60, side_by_side=1, **options)
    assert 1 <= len(first.launched) <= 2
    assert studies.used_up(study) == 0.3 / 60
    assert "sweep.max_minutes=0.005 is used up. Repeat the command with a larger one" in (
        end_of_sweep._continuation(tmp_path, has_failed=True)
    )
    again = StubLauncher(tmp_path)
    study = searched(tmp_path, again, **options)
    assert first.launched + again.launched == list(range(8))
    assert "sweep.max_minutes" not in end_of_sweep._continuation(tmp_path, has_failed=True)
    assert "run what is missing" in end_of_sweep._continuation(tmp_path, has_failed=True)
    assert end_of_sweep._continuation(tmp_path, has_failed=False) == ""
    searched(tmp_path / "whole", **options)
    assert chosen(tmp_path / "whole") == {int(key): value for key, value in chosen(tmp_path).items()}


def test_a_study_of_another_space_or_other_goals_is_not_gone_on_with(tmp_path):
    searched(tmp_path, trials=1)
    with pytest.raises(ConfigError, match="another space"):
        searched(tmp_path, space=NUMBERS)
    with pytest.raises(ConfigError, match="other goals"):
        searched(tmp_path, minimize=[cfg.Cost.macs])
    searched(tmp_path / "several", trials=1, minimize=[cfg.Cost.macs])
    with pytest.raises(ConfigError, match="other goals"):
        searched(tmp_path / "several", minimize=[cfg.Cost.params])


def test_a_defect_in_a_job_is_shown_and_raised_when_the_others_are_done(tmp_path, capsys):
    class Broken(StubLauncher):
        def work(self, folder, overrides, fails):
            if folder.name == "2":
                raise ZeroDivisionError("a defect")
            super().work(folder, overrides, fails)

    broken = Broken(tmp_path)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        searched(tmp_path, broken)
    assert broken.launched == list(range(6))
    assert "Traceback" in capsys.readouterr().err
    again = StubLauncher(tmp_path)
    searched(tmp_path, again)
    assert again.launched == [2]


def test_a_grid_says_how_many_of_its_points_are_left_out(tmp_path, capsys):
    options = {
        "sampler": cfg.SearchSampler.grid,
        "space": {key: SPACE[key] for key in ("y", "kind")} | {"x": SPACE["y"]},
    }
    searched(tmp_path / "some", trials=6, **options)
    assert "12 of 18 points are left out. All of them: sweep.optuna.trials=18" in capsys.readouterr().out
    searched(tmp_path / "all", trials=18, **options)
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("optimizer.lr=tag(log,interval(0,0.1))", "optimizer.lr must begin above 0"),
        ("++train.seed=1,2 sweep.pruner=median", "train.seed is varied. Use sweep.pruner=none"),
        ("train.eval_every=1,2 sweep.pruner=asha", "train.eval_every is varied. Use sweep.pruner=none"),
        ("data=digits,cifar10 sweep.pruner=asha", "data is varied. Use sweep.pruner=none"),
        ("data.val_fraction=0.1,0.2 sweep.pruner=asha", "data.val_fraction is varied. Use sweep.pruner=none"),
        ("data.batch_size=8,16 train.eval_every_steps=5 sweep.pruner=asha", "data.batch_size is varied."),
        (
            "experiment=digits/fast,cifar/cifar10_resnet18 sweep.pruner=median",
            "experiment is varied, whose choices differ in data.kind, ",
        ),
    ],
)
def test_a_search_that_cannot_work_is_not_planned(words, message):
    compose.register()
    with pytest.raises(ConfigError) as refused:
        plan_sweep(["+sweep/optuna=default", "mode=cls", *words.split()])
    assert message in str(refused.value)


@pytest.mark.parametrize("search_words", [[], ["+sweep/optuna=default"]])
def test_what_a_config_file_sweeps_is_looked_at_as_what_the_command_does(tmp_path, search_words):
    compose.register()
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {train.seed: '1,2'}}}\n"
    (tmp_path / "experiment" / "swept.yaml").write_text(text)
    words = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=swept", "sweep.pruner=median"]
    with pytest.raises(ConfigError, match=r"train\.seed is varied\. Use sweep\.pruner=none"):
        plan_sweep([*search_words, *words])


@pytest.mark.parametrize(
    ("keys", "differing"),
    [
        ("optimizer: {lr: 0.01}", ""),
        ("data: {fold: 1, folds: 3}", "data.folds, data.fold"),
        ("train: {eval_every: 2}", "train.eval_every"),
        ("data: {batch_size: 8}", ""),
        ("data: {batch_size: 8}\ntrain: {eval_every_steps: 5}", "data.batch_size, train.eval_every_steps"),
    ],
)
def test_recipes_are_pruned_where_their_validations_compare(tmp_path, keys, differing):
    compose.register()
    (tmp_path / "experiment").mkdir()
    for name, text in (("one", "optimizer: {lr: 0.1}"), ("other", keys)):
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=one,other", "sweep.pruner=median"]
    if not differing:
        plan_sweep(words)
        return
    with pytest.raises(ConfigError) as refused:
        plan_sweep(words)
    assert f"experiment is varied, whose choices differ in {differing}. Use sweep.pruner=none" in str(refused.value)


AUGMENT = ["+sweep/optuna=augment", "augment.mix_off_epochs=range(0,5)"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*AUGMENT, "train.max_minutes=5"], "augment.mix_off_epochs cannot be combined with train.max_minutes"),
        ([*AUGMENT, "train.max_minutes=5"], "range: augment.mixup=0.0 or augment.mix_off_epochs=0"),
        ([*AUGMENT, "train.epochs=3"], "no image would ever be mixed in train.epochs=3"),
        (["+sweep/optuna=optimizer", "optimizer.lr=-1,0.001"], "one value in place of its range: optimizer.lr=0.001"),
        (["+sweep/optuna=optimizer", "optimizer.lr=interval(-2,-1)"], "optimizer.lr=-2.0: must be above 0."),
        (["+sweep/optuna=pruning", "compression=none,fpgm"], "in place of its range: compression=fpgm"),
        (["+sweep/optuna=augment", "mode=cls_distill", "mimic=dkd"], "augment.mixup=0.0"),
    ],
)
def test_a_search_whose_space_has_jobs_that_rules_refuse_is_not_planned(words, message):
    compose.register()
    with pytest.raises(ConfigError) as refused:
        plan_sweep(words)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", choices()["sweep/optuna"])
@pytest.mark.parametrize("words", [["train.max_minutes=5"], ["train.epochs=1"]])
def test_no_preset_has_jobs_that_rules_refuse_whatever_the_length_of_a_run(name, words):
    compose.register()
    rate = ["optimizer.lr=tag(log,interval(0.001,0.1))"] if name == "default" else []
    plan_sweep([f"+sweep/optuna={name}", *words, *rate])


def test_corners_are_those_of_all_keys_and_those_of_one_key_besides():
    space = SPACE | {"kind": spaces.Dimension(("a", "b", "c")), "n": spaces.Dimension((), 1, 6, step=2, integer=True)}
    found = [tuple(corner.values()) for corner in corners.corners(space)]
    assert found[:2] == [(0, 0, "a", 1), (1, 1, "c", 5)]
    assert len(set(found)) == len(found)
    changed = [{place for place in range(4) if one[place] != base[place]} for one in found for base in found[:2]]
    assert all(min(len(changed[2 * number]), len(changed[2 * number + 1])) <= 1 for number in range(len(found)))
    assert {(1, 0, "a", 1), (0, 0, "b", 1), (1, 1, "b", 5), (1, 1, "c", 1)} <= set(found)


def test_a_large_space_is_tried_at_a_bounded_number_of_corners(monkeypatch):
    tried = []
    monkeypatch.setattr(compose, "config_of", tried.append)
    corners.refuse({f"x{number}": spaces.Dimension((), 0, 10**9, integer=True) for number in range(99)}, ["z=1"])
    assert len(tried) == corners.MOST
    assert tried[0] == [*(f"x{number}=0" for number in range(99)), "z=1"]
    monkeypatch.setattr(corners, "SECONDS", 0)
    corners.refuse(SPACE, [])
    assert len(tried) == corners.MOST + 1


def test_a_search_that_was_begun_is_continued_whatever_its_corners_are(tmp_path, monkeypatch):
    compose.register()
    words = [*AUGMENT, "train.epochs=3", "sweep.resume=true", f"hydra.sweep.dir={tmp_path}"]
    with pytest.raises(ConfigError, match="The search would try"):
        plan_sweep(words)
    (tmp_path / SWEEP).write_text("{}")
    plan_sweep(words)


def test_what_a_sweep_varies_is_planned_with_it_also_where_it_is_a_launch(tmp_path):
    compose.register()
    one, planned, *_ = plan_sweep(["launch.nproc_per_node=1,2", "name=x"])
    other, *_ = plan_sweep(["name=x", "launch.nproc_per_node=2,4"])
    assert planned.varied == ["launch.nproc_per_node"]
    assert one != other
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {launch.nproc_per_node: '1,2'}}}\n"
    (tmp_path / "experiment" / "scaling.yaml").write_text(text)
    _, planned, *_ = plan_sweep([f"hydra.searchpath=[file://{tmp_path}]", "experiment=scaling"])
    assert planned.varied == ["launch.nproc_per_node"]


def test_a_pruner_may_compare_runs_with_other_batches_where_epochs_are_counted():
    compose.register()
    plan_sweep(["data.batch_size=8,16", "data.mean=[0.5,0.5,0.5],[0.4,0.4,0.4]", "sweep.pruner=median"])


def test_the_sweeper_of_searches_needs_a_search():
    compose.register()
    with pytest.raises(ConfigError, match=r"Add one, such as \+sweep/optuna=default"):
        plan_sweep(["hydra/sweeper=search", "mode=cls,cls_distill"])


def test_jobs_without_their_study_are_not_searched_again(tmp_path):
    searched(tmp_path, trials=1)
    (tmp_path / sweep.STUDY).unlink()
    with pytest.raises(ConfigError, match="has jobs and no study.log"):
        searched(tmp_path)


def test_a_damaged_study_is_named(tmp_path):
    searched(tmp_path, trials=1)
    path = tmp_path / sweep.STUDY
    path.write_bytes(path.read_bytes().replace(b'"op_code"', b'op_code"', 1))
    with pytest.raises(Damaged, match=sweep.STUDY):
        searched(tmp_path)
