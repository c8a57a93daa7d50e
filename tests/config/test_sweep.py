"""A search space: what of it is refused, and that Optuna's sweeper reads what was meant."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import (
    CategoricalDistribution,
    DiscreteUniformDistribution,
    IntLogUniformDistribution,
    IntUniformDistribution,
    LogUniformDistribution,
    UniformDistribution,
)

from runner import config as cfg
from runner.cli import compose, optuna
from runner.cli.config_dir import config_dir
from runner.errors import ConfigError

SEARCH = "+sweep/optuna=optimizer"


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (cfg.Parameter(low=0.0001, high=0.1, log=True), LogUniformDistribution(0.0001, 0.1)),
        (cfg.Parameter(low=1, high=2), UniformDistribution(1.0, 2.0)),
        (cfg.Parameter(low=1, high=8, integer=True), IntUniformDistribution(1, 8)),
        (cfg.Parameter(low=2, high=8, step=2, integer=True), IntUniformDistribution(2, 8, 2)),
        (cfg.Parameter(low=0, high=1, step=0.25), DiscreteUniformDistribution(0.0, 1.0, 0.25)),
        (cfg.Parameter(low=1, high=8, integer=True, log=True), IntLogUniformDistribution(1, 8)),
        (cfg.Parameter(choices=["kl", "dml"]), CategoricalDistribution(("kl", "dml"))),
        (cfg.Parameter(choices=[1, 0.5, True, None]), CategoricalDistribution((1, 0.5, True, "null"))),
        (cfg.Parameter(choices=[[1, 2], [3]]), CategoricalDistribution(("[1,2]", "[3]"))),
        (cfg.Parameter(choices=["it's a\\b", "x"]), CategoricalDistribution(("'it\\'s a\\b'", "x"))),
    ],
)
def test_the_sweeper_reads_a_parameter_as_it_was_meant(parameter, expected):
    found, fixed = create_params_from_overrides(optuna.overrides({"some.key": parameter}))
    assert fixed == {}
    assert found == {"some.key": expected}


@pytest.mark.parametrize("text", ["it's a\\b", "a\\'b", "\\", "a b", "null", "a数"])
def test_a_job_is_given_the_text_that_the_space_has(text):
    [parsed] = OverridesParser.create().parse_overrides(optuna.overrides({"key": cfg.Parameter(choices=[text, "x"])}))
    value = parsed.value().list[0]
    assert getattr(value, "text", value) == text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("++sweep.optuna.space={optimizer.lrr:{low:1,high:2}}", "no such key. Did you mean 'optimizer.lr'?"),
        ("++sweep.optuna.space={optimiser:{choices:[sgd]}}", "Did you mean 'optimizer'?"),
        ("++sweep.optuna.space={train.ema:{low:1}}", "train.ema: needs choices, or low and high"),
        ("++sweep.optuna.space={train.ema:{low:2,high:1}}", "low=2 must be below high=1"),
        ("++sweep.optuna.space={train.ema:{low:0,high:1,log:true}}", "with log=true it must be above 0"),
        ("++sweep.optuna.space={train.ema:{low:1,high:2,choices:[1]}}", "not both"),
        ("++sweep.optuna.space={train.epochs:{low:1,high:2.5,integer:true}}", "whole numbers"),
        ("++sweep.optuna.space={train.ema:{low:1,high:2,log:true,step:0.1}}", "log=true has no steps"),
        ("sweep.optuna.trials=0", "sweep.optuna.trials=0: must be at least 1"),
        ("deploy.formats=[]", "deploy.formats=[] exports"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_the_remedy(config_of, override, message):
    preset = "+sweep/optuna=architecture" if "formats" in override else SEARCH
    with pytest.raises(ConfigError) as refused:
        config_of(preset, override)
    assert message in str(refused.value)


def test_what_is_best_follows_from_the_goal():
    assert optuna.directions(cfg.Train(), []) == "maximize"
    assert optuna.directions(cfg.Train(monitor="val/loss"), [cfg.Cost.macs]) == ["minimize", "minimize"]
    own = {"regret": cfg.CustomMetric("a.b:c", cfg.Goal.min)}
    assert optuna.directions(cfg.Train(monitor="val/student/regret", metrics=own), []) == "minimize"


@pytest.mark.parametrize(
    ("monitor", "direction"), [("val/student/top1", "maximize"), ("val/macro_f1", "maximize"), ("val/loss", "minimize")]
)
def test_the_sweeper_is_told_the_direction_of_the_monitored_metric(monitor, direction):
    compose.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = ["hydra/sweeper=search", SEARCH, f"train.monitor={monitor}"]
        composed = hydra_compose("config", overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        assert composed.hydra.sweeper.direction == direction
