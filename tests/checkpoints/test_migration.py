"""Runs of earlier versions: brought to this one, with nothing lost, as often as one likes."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from runner import runs
from runner.__main__ import command
from runner.checkpoints import migration, reading
from runner.checkpoints.state import OtherLayout
from runner.cli.open_run import open_run
from runner.config import store
from runner.errors import Damaged
from runner.files.digests import text_digest
from runner.processes import locked
from runner.runs.journal import CHECKPOINTS, CONFIG, JOURNAL, LOCK, PER_CLASS

#: What version 0.1.0 noted of how far a run was.
PROGRESS = ("step", "epoch", "batch", "best", "best_step", "waited")


@pytest.fixture
def old(finished, tmp_path):
    """A finished run as 0.1.0 would have left it."""
    directory = tmp_path / "run"
    shutil.copytree(finished / "run", directory)
    for path in (directory / CHECKPOINTS).glob("*/state.json"):
        state = json.loads(path.read_text())
        kept = {name: state[name] for name in ("schedules", "random", "networks", "paddle")}
        progress = {name: state["progress"][name] for name in PROGRESS}
        path.write_text(json.dumps({"format": 1, "progress": progress, "scaler": None, **kept}))
    lines = [json.loads(line) for line in (directory / JOURNAL).read_text().splitlines()]
    assert lines[-1].pop("exit_code") == 0
    (directory / JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    config = yaml.safe_load((directory / CONFIG).read_text())
    config["data"]["augment"] = config.pop("augment")
    del config["tracking"]["note"]
    (directory / CONFIG).write_text(yaml.safe_dump(config))
    tracked = {"run_id": "0" * 32, "experiment_id": "1", "uri": "sqlite:///outputs/mlflow.db", "params_sent": True}
    (directory / "mlflow.json").write_text(json.dumps(tracked | {"offset": 9}))
    return directory


def contents(directory):
    """Name → bytes of every file; locks are none."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.match("ranks/*")
    }


@pytest.mark.slow
def test_a_run_of_the_first_version_ends_evaluates_and_predicts_again(old, finished, tmp_path, capsys):
    before = contents(old)
    assert runs.state(old).status == "LOST"
    with pytest.raises(Damaged):
        runs.mlflow_id(old)
    with pytest.raises(OtherLayout):
        reading.newest(old)
    assert command(["migrate", str(old)]) == 0
    out = capsys.readouterr().out
    assert "augment" in out
    assert "1 of 1 runs migrated" in out
    state = runs.state(old)
    assert (state.status, state.exit_code) == ("FINISHED", 0)
    assert store.read(old / CONFIG) == store.read(finished / "run" / CONFIG)
    for pointer in ("last", "best"):
        name = reading.pointed(old / CHECKPOINTS, pointer)
        saved = reading.verify(old / CHECKPOINTS / name)
        original = reading.verify(finished / "run" / CHECKPOINTS / name)
        assert (saved.state.classes, saved.state.digests) == (original.state.classes, original.state.digests)
        assert (saved.progress.step, saved.state.steps) == (original.progress.step, original.state.steps)
    after = contents(old)
    assert runs.mlflow_id(old) is None
    for name, content in before.items():
        kept = f"{migration.KEPT}/{name}"
        assert content == (after[kept] if kept in after else after[name][: len(content)])
    assert {name for name in after if name.startswith(migration.KEPT)} >= {f"{migration.KEPT}/{CONFIG}"}


@pytest.mark.slow
def test_a_second_time_there_is_nothing_to_do_and_a_dry_run_does_nothing(old, capsys):
    before = contents(old)
    assert command(["migrate", str(old.parent), "--dry-run"]) == 0
    assert "would change config.yaml" in capsys.readouterr().out
    assert contents(old) == before
    assert command(["migrate", str(old)]) == 0
    done = contents(old)
    capsys.readouterr()
    assert command(["migrate", str(old)]) == 0
    assert "0 of 1 runs migrated, 1 up to date" in capsys.readouterr().out
    assert contents(old) == done


@pytest.mark.slow
def test_what_was_stopped_in_the_middle_is_finished_later_and_the_first_copies_stay(old, monkeypatch):
    before = contents(old)
    write = migration.store.write

    def stopped(config, path):
        write(config, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(migration.store, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        migration.migrate(old, dry=False)
    monkeypatch.undo()
    assert migration.migrate(old, dry=False)[0]
    assert (old / migration.KEPT / CONFIG).read_bytes() == before[CONFIG]
    assert migration.migrate(old, dry=False) == ([], [])


def test_a_run_of_this_version_is_left_alone(finished):
    assert migration.migrate(finished / "run", dry=False) == ([], [])


def test_a_run_without_results_keeps_its_weights_and_says_how_to_take_them(old, capsys):
    (old / PER_CLASS).unlink()
    changes, notes = migration.migrate(old, dry=False)
    assert changes
    assert all("checkpoint.init_from=" in line for line in notes)
    assert migration.migrate(old, dry=True) == ([], notes)
    assert notes
    capsys.readouterr()
    assert command(["migrate", str(old), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "unchanged: the names of its classes" in out
    assert "would change" not in out
    assert "0 of 1 run to migrate, 1 up to date" in out
    with pytest.raises(OtherLayout):
        reading.newest(old)


def test_a_config_that_was_migrated_counts_as_the_run_s_own_and_one_that_was_changed_does_not(old, finished, capsys):
    path = old / CONFIG
    lines = (old / JOURNAL).read_text().splitlines()
    begun = json.loads(lines[0]) | {"config": text_digest(path.read_text())}
    ended = json.loads(lines[-1]) | {"exit_code": 0}
    (old / JOURNAL).write_text("\n".join([json.dumps(begun), *lines[1:-1], json.dumps(ended)]) + "\n")
    changed = old.with_name("changed")
    shutil.copytree(old, changed)
    (changed / CONFIG).write_text(path.read_text() + "\n")
    for directory, told in ((old, False), (changed, True)):
        migration.migrate(directory, dry=False)
        open_run(str(directory), [])
        assert ("was changed after" in capsys.readouterr().err) == told
        assert runs.state(directory).status == "FINISHED"
        assert runs.checkpoints(directory) == runs.checkpoints(finished / "run") != {}


def test_a_damaged_run_and_one_in_training_are_named_and_left(old, capsys):
    with locked(old / LOCK):
        assert command(["migrate", str(old)]) == 3
    assert "being trained" in capsys.readouterr().out
    path = next((old / CHECKPOINTS).glob("*/state.json"))
    path.write_text(json.dumps({"format": 1, "progress": {"step": "many"}}))
    with pytest.raises(Damaged, match="damaged"):
        migration.migrate(old, dry=False)
    (old / "plots.link").symlink_to(old)
    assert command(["migrate", str(old)]) != 0
