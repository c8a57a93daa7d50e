"""A run on its way to a store: what is sent, what is not, and what is said where it cannot be."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from runner.cli import sweep
from runner.cli.train import train_inline
from runner.config import store
from runner.config.addresses import sqlite_path
from runner.errors import CheckpointError
from runner.launch.command import Command
from runner.runs import journal
from runner.tracking import embedded, server, stores
from runner.tracking.answers import Refused
from runner.tracking.mlflow import Mirror
from tests.conftest import run_command

from .conftest import OUTSIDE


def deliver(directory, uri=None, told=None):
    """Send a run as `sync` does."""
    config = store.read(directory / journal.CONFIG)
    known = stores.Delivery(directory)
    known.switch_to(uri) if uri else known.trained_into(config.tracking.uri)
    mirror = Mirror(directory, config, config.tracking, (told if told is not None else []).append)
    mirror.check()
    mirror.replay()
    return mirror


def found(mirror):
    return mirror.client.get_run(mirror.values["run_id"])


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["../outside.txt", "{tmp}/outside.txt", "link.txt", "linked", "plots", "."])
def test_nothing_outside_of_a_run_directory_is_sent(run, tmp_path, name):
    (run / "link.txt").symlink_to(tmp_path / "outside.txt")
    (run / "linked").symlink_to(tmp_path / "outside")
    (run / "plots").mkdir(exist_ok=True)
    (run / "plots" / "x.png").symlink_to(tmp_path / "outside.txt")
    journal.Journal(run).artifact(name.format(tmp=tmp_path))
    told = []
    mirror = deliver(run, told=told)
    assert found(mirror).info.status == "FINISHED"
    assert OUTSIDE.encode() not in everything_in(tmp_path / "outputs")
    assert any("not sent" in text for text in told)


@pytest.mark.parametrize("event", ["checkpoint", "model", "folder"])
def test_names_of_checkpoints_models_and_folders_do_not_leave_either(run, tmp_path, event):
    lines = journal.Journal(run)
    match event:
        case "checkpoint":
            lines.append("checkpoint", name="../../outside", better=True)
        case "model":
            lines.append("model", path="../outside")
        case "folder":
            lines.artifact("environment.json", "../../../elsewhere")
    told = []
    deliver(run, told=told)
    assert told
    assert OUTSIDE.encode() not in everything_in(tmp_path / "outputs")
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_was_extended_is_told_again_with_changed_parameters_as_tags(run):
    first = deliver(run)
    path = run / journal.CONFIG
    store.write(store.read(path, ["train.epochs=3"]), path)
    other = deliver(run, f"sqlite:///{run.parent}/other.db")
    assert found(other).data.params["train.epochs"] == "3"
    lines = journal.Journal(run)
    lines.append("resumed", command=[])
    lines.metrics(99, 3, {"train/loss": 0.5})
    lines.append("ended", status="FINISHED", reason="", exit_code=0)
    first.tracked.values.clear()
    again = deliver(run)
    assert again.values["run_id"] == found(again).info.run_id
    assert found(again).data.metrics["train/loss"] == 0.5
    fresh = stores.Delivery(run)
    fresh.update(params_sent=False)
    again = deliver(run)
    assert found(again).data.tags["resumed.train.epochs"] == "3"


def test_the_reason_of_an_earlier_stop_is_gone_when_the_run_goes_on(run):
    lines = journal.Journal(run)
    lines.append("ended", status="KILLED", reason="Stopped by Ctrl-C.", exit_code=130)
    assert found(deliver(run)).data.tags["ended"] == "Stopped by Ctrl-C."
    lines.append("resumed", command=[])
    lines.append("ended", status="FINISHED", reason="", exit_code=0)
    assert "ended" not in found(deliver(run)).data.tags


def test_a_copy_is_a_run_of_its_own_in_the_store(run):
    first = deliver(run)
    shutil.copytree(run, run.parent / "copy")
    second = deliver(run.parent / "copy")
    assert second.values["run_id"] != first.values["run_id"]
    assert found(second).data.tags["run_dir"] == str(run.parent / "copy")
    assert len(second.client.search_runs([second.values["experiment_id"]])) == 2


def test_a_run_cannot_write_into_another_one_by_naming_its_id(run):
    first = deliver(run)
    shutil.copytree(run, run.parent / "foreign")
    values = json.loads((run / "mlflow.json").read_text())
    values |= {"key": "f" * 32, "home": str(run.parent / "foreign"), "offset": 0}
    (run.parent / "foreign" / "mlflow.json").write_text(json.dumps(values))
    journal.Journal(run.parent / "foreign").append("tags", values={"planted": "yes"})
    deliver(run.parent / "foreign")
    assert "planted" not in found(first).data.tags


def test_a_job_of_a_sweep_that_is_resumed_is_not_sent_to_a_store_that_only_it_names(run, tmp_path, capsys):
    theirs = f"sqlite:///{tmp_path}/theirs.db"
    path = run / journal.CONFIG
    store.write(store.read(path, [f"tracking.uri={theirs}"]), path)
    sent = Command(train_inline)
    sweep._deliver(sent, run)
    assert "--uri" in capsys.readouterr().err
    assert not sent.mirrors.processes
    assert not stores.is_trusted(theirs)


def test_a_deleted_run_is_named_with_what_restores_it(run):
    first = deliver(run)
    first.client.delete_run(first.values["run_id"])
    with pytest.raises(Refused, match="runs restore"):
        deliver(run)
    first.client.restore_run(first.values["run_id"])
    deliver(run)


def test_a_deleted_experiment_is_named_with_what_restores_it(run):
    first = deliver(run)
    first.client.delete_experiment(first.values["experiment_id"])
    with pytest.raises(Refused, match="experiments restore"):
        deliver(run)
    shutil.copytree(run, run.parent / "copy")
    with pytest.raises(Refused, match="experiments restore"):
        deliver(run.parent / "copy")


def test_a_renamed_project_keeps_its_store_and_the_old_folder_is_not_made_again(finished, tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    shutil.copytree(finished / "run", tmp_path / "old" / "run")
    (tmp_path / "old" / "run" / "mlflow.json").unlink()
    monkeypatch.chdir(tmp_path / "old")
    first = deliver(tmp_path / "old" / "run")
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    journal.Journal(tmp_path / "new" / "run").artifact("environment.json", "again")
    # MLflow remembers within a process where a run's artefacts are.
    done = run_command("sync", "run", cwd=tmp_path / "new")
    assert done.returncode == 0, done.stderr
    second = deliver(tmp_path / "new" / "run")
    assert second.values["run_id"] == first.values["run_id"]
    assert found(second).data.tags["run_dir"] == str(tmp_path / "new" / "run")
    assert not (tmp_path / "old").exists()
    assert len(list((tmp_path / "new" / "outputs").rglob("again/environment.json"))) == 1


def test_a_store_that_is_gone_with_its_folder_is_not_made_again(run, tmp_path, monkeypatch):
    (tmp_path / "proj").mkdir()
    deliver(run, f"sqlite:///{tmp_path}/proj/store.db")
    shutil.rmtree(tmp_path / "proj")
    with pytest.raises(Refused, match="--uri"):
        deliver(run, f"sqlite:///{tmp_path}/proj/store.db")
    assert not (tmp_path / "proj").exists()


@pytest.mark.parametrize("migrated", [False, True])
def test_a_database_of_another_program_is_left_as_it_is(run, tmp_path, migrated):
    path = tmp_path / "mine.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photos (name TEXT)")
        if migrated:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES ('abc123')")
    database.close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="photos"):
        deliver(run, f"sqlite:///{path}")
    assert path.read_bytes() == before
    path.write_bytes(b"not a database at all, but a text of some length" * 100)
    before = path.read_bytes()
    with pytest.raises(Refused, match=r"mine\.db"):
        deliver(run, f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", ["bf29a5ff90ea", "ffffffffffff"])
def test_a_store_of_another_version_of_mlflow_is_named_with_the_remedy(run, tmp_path, version):
    first = deliver(run)
    path = tmp_path / "other.db"
    shutil.copyfile(sqlite_path(first.uri), path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        # MLflow makes what an older version did not have.
        database.execute("DROP TABLE webhook_events")
    database.close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="mlflow db upgrade"):
        deliver(run, f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_run_whose_store_was_lost_while_it_trains_is_made_again_in_the_new_one(run, tmp_path):
    first = deliver(run)
    path = sqlite_path(first.uri)
    with sqlite3.connect(path) as database:
        for table in ("latest_metrics", "metrics", "params", "tags", "inputs", "runs"):
            database.execute(f"DELETE FROM {table}")
    database.close()
    journal.Journal(run).metrics(99, 3, {"train/loss": 0.5})
    first.replay()
    assert found(first).info.status == "FINISHED"
    assert found(first).data.metrics["train/loss"] == 0.5


def test_artefacts_that_were_not_moved_stay_where_they_are(run, tmp_path):
    first = deliver(run)
    path = sqlite_path(first.uri)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mlflow.db"
    shutil.copyfile(path, moved)
    (tmp_path / "elsewhere" / "mlartifacts").mkdir()
    before = moved.read_bytes()
    embedded.follow_move(moved)
    assert moved.read_bytes() == before


@pytest.mark.parametrize("tag", ["/tmp/elsewhere", "../../elsewhere", "step-1/../../x", ""])
def test_what_a_server_calls_a_checkpoint_is_not_a_path(run, tag):
    first = deliver(run)
    first.client.set_tag(first.values["run_id"], "checkpoint.best", tag)
    shutil.rmtree(run)
    with pytest.raises(CheckpointError, match="which is not one"):
        server.fetch(first.uri, first.values["run_id"])


def test_the_directory_that_a_server_names_is_taken_only_where_it_is_that_runs(run):
    first = deliver(run)
    run_id = first.values["run_id"]
    assert server.fetch(first.uri, run_id) == run
    assert server.directory_in({"run_dir": str(run)}, run_id, "http://other") is None
    assert server.directory_in({"run_dir": str(run)}, "0" * 32, first.uri) is None
    assert server.directory_in({"run_dir": "/etc"}, run_id, first.uri) is None
