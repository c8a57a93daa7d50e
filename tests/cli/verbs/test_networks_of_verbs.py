"""Which network a verb takes where none is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.cli import api, classifier
from runner.cli.compose import config_of
from runner.cli.open_run import TRUST
from runner.cli.verbs import explain
from runner.config import store
from runner.errors import CheckpointError, ConfigError
from runner.runs.journal import JOURNAL
from runner.worker import finished
from tests.deploy import helpers

DISTILLED = ["mode=cls_distill", "deploy.network=student1"]


@pytest.fixture
def asked(monkeypatch):
    """The networks that verbs ask for."""
    names = []

    def network_of(_directory, _config, name, _pointer="final"):
        names.append(name)
        return SimpleNamespace(network=name, classes=["a", "b"])

    monkeypatch.setattr(finished, "classifier", network_of)
    return names


def test_predict_and_python_take_the_network_that_is_exported(tmp_path, monkeypatch, asked):
    config = config_of(DISTILLED)
    store.write(config, tmp_path / "config.yaml")
    for module in (classifier, api):
        monkeypatch.setattr(module, "open_run", lambda run, _overrides: (Path(run), config))
    classifier.classifier_of(str(tmp_path), [], None, None)
    classifier.classifier_of(str(tmp_path), [], None, "student")
    run = api.Run(tmp_path)
    run.network()
    run.network("student")
    assert asked == ["student1", "student"] * 2


def test_explain_takes_it_too(tmp_path, monkeypatch):
    config, asked = config_of(DISTILLED), []

    def of_run(options, _directory, _config):
        asked.append(options.network)
        raise ConfigError("enough")

    monkeypatch.setattr(explain, "open_run", lambda *_arguments, **_sees: (tmp_path, config))
    monkeypatch.setattr(explain, "_of_run", of_run)
    for words in ([], ["--network", "student"]):
        with pytest.raises(ConfigError, match="enough"):
            explain.main([str(tmp_path), *words])
    assert asked == ["student1", "student"]


@pytest.mark.parametrize("engine", [None, "onnxruntime"])
@pytest.mark.parametrize("network", ["student2", "../..", "/", "."])
def test_a_network_that_a_run_does_not_train_is_refused_with_those_it_has(tmp_path, network, engine):
    store.write(config_of(DISTILLED), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=rf"has no network '{network}'\. It has: student, student1$"):
        classifier.classifier_of(str(tmp_path), [], engine, network)


@pytest.mark.parametrize(("network", "option"), [(None, ""), ("student", " --network student")])
def test_a_missing_export_is_written_by_the_command_that_is_named(tmp_path, monkeypatch, network, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    store.write(config_of(DISTILLED), tmp_path / "mine/config.yaml")
    (tmp_path / "mine" / JOURNAL).touch()
    with pytest.raises(CheckpointError, match="mine has neither an exported network nor a checkpoint"):
        classifier.classifier_of("mine", [], "onnxruntime", network)
    (tmp_path / "mine/checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=rf"python -m runner export mine{option}$"):
        classifier.classifier_of("mine", [], "onnxruntime", network)


def test_an_unknown_engine_is_refused_with_those_there_are(tmp_path):
    store.write(config_of(DISTILLED), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="engine='tensorrt': it is one of onnxruntime, openvino, paddle"):
        classifier.classifier_of(str(tmp_path), [], "tensorrt", "student2")


@pytest.fixture
def exported(tmp_path):
    """A run with exports of both of its networks; that of the student is its own."""
    store.write(config_of(["mode=cls_distill"]), tmp_path / "config.yaml")
    (tmp_path / JOURNAL).touch()
    helpers.export(tmp_path / "export")
    helpers.changed(helpers.export(tmp_path / "student1" / "export"), network="student1")
    return tmp_path


@pytest.mark.parametrize("engine", ["onnxruntime", "paddle"])
@pytest.mark.parametrize(
    ("overrides", "named", "network"),
    [
        ([], None, "student"), ([], "student1", "student1"), (["deploy.network=student1"], None, "student1"),
        (["deploy.network=student1"], "student", "student"),
    ],
)  # fmt: skip
def test_exported_files_are_of_the_network_that_overrides_name(exported, engine, overrides, named, network):
    of_verb = classifier.classifier_of(str(exported), overrides, engine, named)
    run = api.Run(exported, (*overrides, TRUST))
    assert [one.manifest.network for one in (of_verb, run._classifier(engine, named))] == [network] * 2


def test_overrides_that_exported_files_cannot_follow_are_refused_by_name(exported):
    run = api.Run(exported, ("tracking.uri=sqlite:///other.db", "data.resize=pad", TRUST))
    with pytest.raises(ConfigError, match=r"^data\.resize=pad: an exported file has no config"):
        run.predict([], engine="onnxruntime")
