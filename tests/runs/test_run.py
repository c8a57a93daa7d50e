"""A directory whose run never came to train is free for another one; any other is not."""

from __future__ import annotations

import pytest

from runner import runs
from runner.config import store
from runner.errors import ConfigError
from runner.launch import supervisor
from runner.runs.journal import CONFIG, JOURNAL, Journal, events
from tests.conftest import composed


@pytest.fixture
def directory(tmp_path):
    """Of a run that was refused by its worker."""
    folder = tmp_path / "run"
    (folder / "ranks").mkdir(parents=True)
    assert supervisor.prepare(composed("model=resnet18", "train.seed=1"), folder, ["train.seed=1"], {})
    for name in ("mlflow.json", "ranks/tracking.csv.json", "train.log", "mine.txt"):
        (folder / name).write_text("{}")
    return folder


def ended(directory, status):
    Journal(directory).append("ended", status=status, reason="no such file", exit_code=3)


def test_another_run_takes_the_directory_of_one_that_was_refused(directory):
    ended(directory, "FAILED")
    assert supervisor.prepare(composed("model=resnet50"), directory, [], {})
    assert store.read(directory / CONFIG).model.architecture == "resnet50"
    assert [event["event"] for event, _ in events(directory)] == ["started"]
    assert sorted(path.name for path in directory.iterdir() if path.is_file()) == [
        CONFIG, JOURNAL, "mine.txt", "overrides.yaml", "train.log",
    ]  # fmt: skip
    assert not list((directory / "ranks").iterdir())


def test_another_config_takes_it_where_a_run_should_go_on(directory):
    ended(directory, "FAILED")
    assert supervisor.prepare(composed("model=resnet50", "checkpoint.resume=auto"), directory, [], {})
    assert store.read(directory / CONFIG).model.architecture == "resnet50"
    assert [event["event"] for event, _ in events(directory)] == ["started"]


def test_the_same_run_goes_on_where_it_is_asked_to(directory):
    ended(directory, "FAILED")
    config = composed("model=resnet18", "train.seed=1", "checkpoint.resume=auto")
    assert supervisor.prepare(config, directory, [], {})
    assert [event["event"] for event, _ in events(directory)] == ["started", "ended", "resumed"]
    assert (directory / "mlflow.json").exists()


@pytest.mark.parametrize("came_to", ["dataset", "metrics", "killed", "running"])
def test_a_run_that_read_its_data_or_may_go_on_is_kept(directory, came_to):
    match came_to:
        case "dataset":
            Journal(directory).append("dataset", name="x", digest="y", source="z", profile={})
        case "metrics":
            Journal(directory).metrics(1, 0, {"train/loss": 1.0})
    if came_to != "running":
        ended(directory, "KILLED" if came_to == "killed" else "FAILED")
    before = (directory / JOURNAL).read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        supervisor.prepare(composed("model=resnet50"), directory, [], {})
    with pytest.raises(ConfigError, match="cannot be continued with another config"):
        supervisor.prepare(composed("model=resnet50", "checkpoint.resume=auto"), directory, [], {})
    assert (directory / JOURNAL).read_bytes() == before
    assert runs.config_of(directory).model.architecture == "resnet18"
