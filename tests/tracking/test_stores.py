"""Which store a run is in, and which stores this user sends runs to."""

from __future__ import annotations

import json
import shutil

import pytest

from runner.config.addresses import sqlite_path
from runner.errors import CheckpointError, ConfigError
from runner.tracking import rebuilt, server, stores
from runner.tracking.stores import Delivery

DEFAULT = "sqlite:///outputs/mlflow.db"


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """A user of this test's, in a working directory of its own."""
    (tmp_path / "proj" / "outputs").mkdir(parents=True)
    (tmp_path / "proj" / "run").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path / "proj")
    return tmp_path


def trained(directory, said=DEFAULT, store_exists=True):
    """As a command does that trains a run."""
    uri = Delivery(directory).trained_into(said)
    stores.remember(uri)
    if path := sqlite_path(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return uri


def test_a_relative_store_is_remembered_by_its_place(own_state, monkeypatch):
    run = own_state / "proj" / "run"
    first = trained(run)
    assert first == f"sqlite:///{own_state}/proj/outputs/mlflow.db"
    (own_state / "elsewhere").mkdir()
    monkeypatch.chdir(own_state / "elsewhere")
    assert Delivery(run).trained_into(DEFAULT) == first


def test_a_store_that_the_command_changes_is_another_one(own_state):
    run = own_state / "proj" / "run"
    trained(run)
    other = f"sqlite:///{own_state}/other.db"
    assert Delivery(run).trained_into(other) == other


def test_what_is_known_of_each_store_is_kept(own_state):
    known = Delivery(own_state / "proj" / "run")
    known.switch_to("http://a")
    known.update(run_id="1", experiment_id="1", offset=10, params_sent=True)
    key = known.values["key"]
    known.switch_to("http://b")
    assert "run_id" not in known.values
    known.update(run_id="2", experiment_id="1", offset=0, params_sent=False)
    again = Delivery(own_state / "proj" / "run")
    again.switch_to("http://a/")
    assert (again.values["run_id"], again.values["offset"], again.values["key"]) == ("1", 10, key)


def test_a_copy_of_a_run_is_a_run_of_its_own_and_a_moved_one_the_same(own_state):
    known = Delivery(own_state / "proj" / "run")
    known.switch_to("http://a")
    known.update(run_id="1", experiment_id="1", offset=0, params_sent=False)
    shutil.copytree(own_state / "proj" / "run", own_state / "copy")
    copy = Delivery(own_state / "copy")
    assert "run_id" not in copy.values
    assert copy.values["key"] != known.values["key"]
    assert copy.trained_into("http://a") == "http://a"
    assert Delivery(own_state / "proj" / "run").values["run_id"] == "1"
    (own_state / "proj" / "run").rename(own_state / "moved")
    moved = Delivery(own_state / "moved")
    assert moved.values["run_id"] == "1"
    assert moved.moved
    moved.write()
    assert not Delivery(own_state / "moved").moved


def test_a_store_that_was_moved_with_its_project_is_found_again(own_state, monkeypatch):
    run = own_state / "proj" / "run"
    trained(run)
    (own_state / "proj").rename(own_state / "renamed")
    monkeypatch.chdir(own_state / "renamed")
    assert Delivery(own_state / "renamed" / "run").trained_into(DEFAULT) == (
        f"sqlite:///{own_state}/renamed/outputs/mlflow.db"
    )


def test_a_store_that_is_gone_is_not_replaced_by_another_in_silence(own_state, monkeypatch):
    run = own_state / "proj" / "run"
    first = trained(run)
    (own_state / "proj").rename(own_state / "renamed")
    (own_state / "elsewhere").mkdir()
    monkeypatch.chdir(own_state / "elsewhere")
    assert Delivery(own_state / "renamed" / "run").trained_into(DEFAULT) == first


@pytest.mark.parametrize("uri", ["http://evil:5000", "sqlite:////tmp/evil.db", "postgresql://evil/db"])
def test_only_stores_that_a_command_of_the_user_named_are_trusted(own_state, uri):
    run = own_state / "proj" / "run"
    with pytest.raises(ConfigError, match="--uri"):
        stores.require_trust(run, uri)
    stores.remember(uri)
    stores.require_trust(run, uri)
    stores.require_trust(run, DEFAULT)


def test_the_file_of_a_foreign_run_does_not_choose_the_store_of_a_command(own_state):
    run = own_state / "proj" / "run"
    (run / "mlflow.json").write_text(json.dumps({"said": DEFAULT, "own": "http://evil", "uri": "http://evil"}))
    assert Delivery(run).trained_into(DEFAULT) == f"sqlite:///{own_state}/proj/outputs/mlflow.db"


def test_a_verb_sends_a_run_to_the_store_it_was_trained_into_or_nowhere(own_state, monkeypatch):
    run = own_state / "proj" / "run"
    first = trained(run)
    before = (run / "mlflow.json").read_bytes()
    (own_state / "elsewhere").mkdir()
    monkeypatch.chdir(own_state / "elsewhere")
    # As where nothing could be remembered.
    monkeypatch.setenv("XDG_STATE_HOME", str(own_state / "empty"))
    with pytest.raises(ConfigError, match=r"sync .*proj/run --uri sqlite:///"):
        Delivery(run).sent_into(DEFAULT)
    assert (run / "mlflow.json").read_bytes() == before
    stores.remember(first)
    assert Delivery(run).sent_into(DEFAULT) == first


def test_a_directory_under_another_name_is_no_copy(own_state):
    run = own_state / "proj" / "run"
    known = Delivery(run)
    known.switch_to("http://a")
    known.update(run_id="1", experiment_id="1", offset=0, params_sent=False, home="/proc/self/cwd/run")
    assert Delivery(run).values["run_id"] == "1"


def test_the_command_that_trusts_a_store_takes_whatever_stands_in_its_name_as_one_word(own_state):
    with pytest.raises(ConfigError) as caught:
        stores.require_trust(own_state / "proj" / "run", "http://x;touch pwned")
    assert "--uri 'http://x;touch pwned'" in str(caught.value)


def test_where_nothing_can_be_remembered_nothing_is_trusted_but_the_default(own_state, monkeypatch):
    (own_state / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(own_state / "file" / "x"))
    stores.remember("http://mine")
    assert not stores.is_trusted("http://mine")
    assert stores.is_trusted(DEFAULT)


def test_a_relative_address_leads_to_the_store_of_the_directory_that_it_is_read_in(own_state, monkeypatch):
    for name in ("first", "second"):
        (own_state / name).mkdir()
        monkeypatch.chdir(own_state / name)
        server.connect("sqlite:///mlflow.db").create_experiment(name)
        with pytest.raises(CheckpointError, match=rf"It has: Default, {name}$"):
            rebuilt.experiment("sqlite:///mlflow.db", "none")
