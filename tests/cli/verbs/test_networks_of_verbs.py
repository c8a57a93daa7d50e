"""Which network a verb takes where none is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.cli import api
from runner.cli.compose import config_of
from runner.cli.verbs import explain, predict
from runner.config import store
from runner.errors import CheckpointError, ConfigError
from runner.worker import finished

DISTILLED = ["mode=cls_distill", "deploy.network=student1"]


@pytest.fixture
def asked(monkeypatch):
    """The networks that verbs ask for."""
    names = []

    def classifier(_directory, _config, name, _pointer="final"):
        names.append(name)
        return SimpleNamespace(network=name, classes=["a", "b"])

    monkeypatch.setattr(finished, "classifier", classifier)
    return names


def test_predict_and_python_take_the_network_that_is_exported(tmp_path, monkeypatch, asked):
    config = config_of(DISTILLED)
    store.write(config, tmp_path / "config.yaml")
    for module in (predict, api):
        monkeypatch.setattr(module, "open_run", lambda run, _overrides: (Path(run), config))
    predict.classifier_of(str(tmp_path), [], None, None)
    predict.classifier_of(str(tmp_path), [], None, "student")
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


def test_the_network_before_pruning_is_that_of_the_run_that_pruned(monkeypatch, asked):
    configs = {
        "dense": config_of([]),
        "pruned": config_of(["compression=fpgm", "checkpoint.init_from=dense"]),
        "quantized": config_of(["compression=qat", "checkpoint.init_from=pruned"]),
        "again": config_of(["compression=fpgm", "checkpoint.init_from=quantized"]),
        "anew": config_of(["compression=fpgm"]),
    }
    for name in ("open_run", "find_run"):
        monkeypatch.setattr(explain, name, lambda run, _overrides: (Path(run), configs[run]))
    options = argparse.Namespace(overrides=[], network="student")
    before = {}
    for name, config in configs.items():
        origin = explain._origin(options, config, ["a", "b"], [])
        before[name] = origin and Path(origin[0]).name
    assert before == {"dense": None, "pruned": "dense", "quantized": "dense", "again": "quantized", "anew": None}


@pytest.mark.parametrize("engine", [None, "onnxruntime"])
@pytest.mark.parametrize("network", ["student2", "../..", "/", "."])
def test_a_network_that_a_run_does_not_train_is_refused_with_those_it_has(tmp_path, network, engine):
    store.write(config_of(DISTILLED), tmp_path / "config.yaml")
    with pytest.raises(CheckpointError, match=rf"has no network '{network}'\. It has: student, student1$"):
        predict.classifier_of(str(tmp_path), [], engine, network)


@pytest.mark.parametrize(("network", "option"), [(None, ""), ("student", " --network student")])
def test_a_missing_export_is_written_by_the_command_that_is_named(tmp_path, monkeypatch, network, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    store.write(config_of(DISTILLED), tmp_path / "mine/config.yaml")
    with pytest.raises(CheckpointError, match=rf"python -m runner export mine{option}$"):
        predict.classifier_of("mine", [], "onnxruntime", network)


def test_an_unknown_engine_is_refused_with_those_there_are(tmp_path):
    store.write(config_of(DISTILLED), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="engine='tensorrt': it is one of onnxruntime, openvino, paddle"):
        predict.classifier_of(str(tmp_path), [], "tensorrt", "student2")
