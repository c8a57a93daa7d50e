"""What is said before a run about variables that other programs follow, and overrides of which nothing comes."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from runner.cli import compose
from runner.cli.config_dir import config_dir
from runner.cli.job import tell_of_augmentation, tell_of_variables


@pytest.fixture
def told(capsys, monkeypatch):
    """What is said with some overrides and variables."""

    def tell(*overrides, **variables):
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        compose.register()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            tell_of_variables(hydra_compose("config", list(overrides)))
        return capsys.readouterr().err

    return tell


def test_a_variable_of_mlflow_s_that_is_not_followed_is_named_and_how_to_follow_it(told):
    said = told(MLFLOW_TRACKING_URI="http://ada:opensesame@host:5000", MLFLOW_EXPERIMENT_NAME="mine")
    assert 'To use it: tracking.uri="$MLFLOW_TRACKING_URI"' in said
    assert "the run has tracking.uri=sqlite:///outputs/mlflow.db" in said
    assert 'To use it: name="$MLFLOW_EXPERIMENT_NAME"' in said
    assert "opensesame" not in said


@pytest.mark.parametrize(
    ("overrides", "variables"),
    [
        ([], {}),
        ([], {"MLFLOW_TRACKING_URI": "sqlite:///outputs/mlflow.db"}),
        (["tracking.uri=http://other"], {"MLFLOW_TRACKING_URI": "http://host"}),
        (["tracking=none", "name=a"], {"MLFLOW_TRACKING_URI": "http://host", "MLFLOW_EXPERIMENT_NAME": "mine"}),
    ],
)
def test_nothing_is_said_where_the_config_says_it_or_it_is_the_same(told, overrides, variables):
    assert told(*overrides, **variables) == ""


def test_changes_that_augment_none_has_off_are_named(config_of, capsys):
    overrides = ["augment=none", "augment.mixup=0.2", "+augment.kwargs.share=1"]
    tell_of_augmentation(config_of(*overrides), overrides)
    assert "augment.mixup=0.2, +augment.kwargs.share=1: has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides", [["augment=none"], ["augment.enabled=false"], ["augment=light", "augment.mixup=1"]]
)
def test_of_changes_that_happen_nothing_is_said(config_of, capsys, overrides):
    tell_of_augmentation(config_of(*overrides), overrides)
    assert not capsys.readouterr().err
