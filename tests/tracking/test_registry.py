"""The registry: which versions a name has, and which of them is the best."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from runner import config as cfg
from runner.config import store
from runner.deploy.manifest import EXPORT, MANIFEST
from runner.runs import result
from runner.runs.journal import CONFIG, JOURNAL, RESULT, Journal, events
from runner.runs.result import MONITORED
from runner.tracking import registry
from tests.deploy import helpers

from .test_mlflow import deliver


@pytest.fixture
def of_value(run):
    """`of_value("name", 0.9)`: a copy of the run whose monitored metric came so far, registered as `digits`."""

    def make(name, value, **more):
        directory = run.parent / name
        shutil.copytree(run, directory)
        helpers.export(directory / EXPORT)
        settings = {"register": "digits"} | more
        path = directory / CONFIG
        store.write(store.read(path, [f"tracking.{key}={value}" for key, value in settings.items()]), path)
        lines = [json.loads(line) for line in (directory / JOURNAL).read_text().splitlines()]
        for line in lines:
            if line["event"] == "metrics" and MONITORED in line["values"]:
                line["values"][MONITORED] = value
        # In the journal of a run that exports, before its end.
        lines.insert(-1, {"event": "model", "time": lines[-1]["time"], "path": EXPORT})
        (directory / JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return directory

    return make


def versions(mirror):
    """(run id, value) of each version, the oldest first, and the run that has the alias."""
    client = mirror.client
    found = sorted(client.search_model_versions("name = 'digits'"), key=lambda version: int(version.version))
    best = client.get_model_version_by_alias("digits", registry.ALIAS)
    return [(version.run_id, float(version.tags[registry.VALUE])) for version in found], best


@pytest.mark.slow
def test_the_alias_goes_to_the_best_run_and_never_to_a_worse_one(of_value):
    good, bad, best = (deliver(of_value(name, value)) for name, value in (("a", 0.8), ("b", 0.7), ("c", 0.9)))
    listed, alias = versions(best)
    assert listed == [(good.values["run_id"], 0.8), (bad.values["run_id"], 0.7), (best.values["run_id"], 0.9)]
    assert alias.run_id == best.values["run_id"]
    deliver(of_value("d", 0.9))
    assert versions(best)[1].run_id == best.values["run_id"], "of equal ones the first stays"


@pytest.mark.parametrize(
    ("metrics", "value"), [({MONITORED: 0.74}, "0.74"), ({}, "0.98"), ({MONITORED: float("nan")}, None)]
)
def test_a_version_is_judged_by_what_its_run_decided_by_and_not_by_validations_before_a_cut(metrics, value):
    class Client:
        def get_metric_history(self, run_id, metric):
            return [SimpleNamespace(value=value) for value in (0.97, 0.98, 0.71, 0.74)]

        def get_run(self, run_id):
            return SimpleNamespace(data=SimpleNamespace(metrics=metrics))

    assert registry._judged(Client(), cfg.Config(), "run").get(registry.VALUE) == value


def test_the_journal_has_the_value_that_the_run_decided_by(run):
    [value] = [event["values"][MONITORED] for event, _ in events(run) if MONITORED in event.get("values", {})]
    assert value == result.read(run / RESULT).best


@pytest.mark.slow
def test_delivering_again_adds_no_version_and_another_export_of_the_best_run_is_the_best(of_value):
    directory = of_value("a", 0.8)
    mirror = deliver(directory)
    (directory / "mlflow.json").unlink()
    # As a call whose answer never came: the whole journal is sent again to the run that is there.
    mirror.tracked.update(offset=0)
    mirror = deliver(directory)
    assert len(versions(mirror)[0]) == 1
    manifest = directory / EXPORT / MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"unknown_below": 0.25}))
    Journal(directory).append("model", path=EXPORT)
    mirror = deliver(directory)
    listed, alias = versions(mirror)
    assert [run_id for run_id, _ in listed] == [mirror.values["run_id"]] * 2
    assert int(alias.version) == 2


@pytest.mark.slow
def test_a_run_that_did_not_finish_is_not_registered(of_value):
    directory = of_value("a", 0.8)
    text = (directory / JOURNAL).read_text()
    (directory / JOURNAL).write_text(text.replace('"FINISHED"', '"KILLED"'))
    assert not deliver(directory).client.search_registered_models()


@pytest.mark.slow
def test_an_alias_that_was_given_by_hand_to_something_else_stays(of_value):
    first = deliver(of_value("a", 0.8))
    model = first.client.search_model_versions("name = 'digits'")[0]
    foreign = first.client.create_model_version("digits", model.source, first.values["run_id"])
    first.client.set_registered_model_alias("digits", registry.ALIAS, foreign.version)
    told = []
    deliver(of_value("b", 0.9), told=told)
    assert first.client.get_model_version_by_alias("digits", registry.ALIAS).version == foreign.version
    assert any("stays at version" in text for text in told)


def test_a_run_without_an_export_is_named_and_has_its_description(of_value):
    directory = of_value("a", 0.8, note="## First try")
    shutil.rmtree(directory / EXPORT)
    told = []
    mirror = deliver(directory, told=told)
    assert any("no export" in text for text in told)
    assert not mirror.client.search_registered_models()
    tags = mirror.client.get_run(mirror.values["run_id"]).data.tags
    assert tags["mlflow.note.content"] == "## First try"


def test_a_changed_description_is_sent_when_the_run_goes_on(of_value):
    directory = of_value("a", 0.8, register="null", note="before")
    deliver(directory)
    path = directory / CONFIG
    store.write(store.read(path, ["tracking.note=after"]), path)
    Journal(directory).append("resumed", command=[])
    mirror = deliver(directory)
    assert mirror.client.get_run(mirror.values["run_id"]).data.tags["mlflow.note.content"] == "after"
