"""A search space: what of it is refused, and what Optuna makes of it."""

from __future__ import annotations

import string

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner import config as cfg
from runner.cli import spaces
from runner.config.rules.search import problems
from runner.errors import ConfigError
from tests.conftest import composed

distributions = pytest.importorskip("optuna.distributions")
Number, Whole, Choice = (distributions.FloatDistribution, distributions.IntDistribution,
                         distributions.CategoricalDistribution)  # fmt: skip
SEARCH = "+sweep/optuna=optimizer"


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (cfg.Parameter(low=0.0001, high=0.1, log=True), Number(0.0001, 0.1, log=True)),
        (cfg.Parameter(low=1, high=2), Number(1.0, 2.0)),
        (cfg.Parameter(low=1, high=8, integer=True), Whole(1, 8)),
        (cfg.Parameter(low=2, high=8, step=2, integer=True), Whole(2, 8, step=2)),
        (cfg.Parameter(low=0, high=1, step=0.25), Number(0.0, 1.0, step=0.25)),
        (cfg.Parameter(low=1, high=8, integer=True, log=True), Whole(1, 8, log=True)),
        (cfg.Parameter(choices=["kl", "dml"]), Choice(("kl", "dml"))),
        (cfg.Parameter(choices=[1, 0.5, True, None]), Choice(("1", "0.5", "true", "null"))),
        (cfg.Parameter(choices=[[1, 2], [3]]), Choice(("[1,2]", "[3]"))),
        (cfg.Parameter(choices=["it's a\\b", "x"]), Choice(("'it\\'s a\\b'", "x"))),
    ],
)
def test_optuna_is_given_a_parameter_as_it_was_meant(parameter, expected):
    assert spaces.of_parameter(parameter).distribution() == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lr=interval(0.1,1)", Number(0.1, 1.0)),
        ("lr=tag(log,interval(0.001,0.1))", Number(0.001, 0.1, log=True)),
        ("epochs=int(interval(1,8))", Whole(1, 8)),
        ("epochs=range(1,8,3)", Whole(1, 7, step=3)),
        ("ratio=range(0.0,1.0,0.25)", Number(0.0, 0.75, step=0.25)),
        ("loss=a,'b c',null,1", Choice(("a", "'b c'", "null", "1"))),
    ],
)
def test_a_sweep_of_the_command_line_is_a_space(override, expected):
    space, fixed = spaces.read({"lr": cfg.Parameter(low=5, high=6)}, [override, "mode=cls"])
    key = override.partition("=")[0]
    assert space[key].distribution() == expected
    assert list(space) == (["lr"] if key == "lr" else ["lr", key])
    assert fixed == ["mode=cls"]


def test_the_last_word_on_a_key_counts():
    sweeper, command = ["lr=1,2", "loss=kl", "epochs=3,4"], ["++lr=5", "loss=dml,kd"]
    space, fixed = spaces.read({}, [*sweeper, *command])
    assert list(space) == ["epochs", "loss"]
    assert space["loss"].choices == ("dml", "kd")
    assert fixed == ["++lr=5"]


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        (0.0, 0.3, 0.1, [0.0, 0.1, 0.2, 0.3]),
        (0.1, 0.75, 0.2, [0.1, 0.3, 0.5, 0.7]),
        (1e-5, 3e-5, 1e-5, [1e-5, 2e-5, 3e-5]),
    ],
)
def test_steps_are_the_numbers_that_were_written(low, high, step, expected):
    assert spaces.Dimension((), low, high, step=step).points() == expected


@pytest.mark.parametrize("text", ["it's a\\b", "a\\'b", "\\", "a b", "null", "a数"])
def test_a_job_is_given_the_text_that_the_space_has(text):
    [value, _] = spaces.of_parameter(cfg.Parameter(choices=[text, "x"])).choices
    [parsed] = OverridesParser.create().parse_overrides(spaces.overrides({"key": value}))
    assert getattr(parsed.value(), "text", parsed.value()) == text


def test_entries_of_one_mapping_are_one_override_that_hydra_reads_as_they_are():
    chosen = {"lr": 0.1, "a.ratios@blocks.?.conv*": 0.25, "a.ratios@[0-9], (x):=y\\": 3, "model@mode.peer": "resnet18"}
    texts = spaces.overrides(chosen)
    parsed = {one.get_key_element(): one.value() for one in OverridesParser.create().parse_overrides(texts)}
    assert parsed == {
        "lr": 0.1,
        "model@mode.peer": "resnet18",
        "a.ratios": {"blocks.?.conv*": 0.25, "[0-9], (x):=y\\": 3},
    }


def test_a_pattern_is_refused_where_hydra_would_not_read_it_as_it_is():
    entries = [f"a{character}b" for character in [*string.printable, "é", "数"]]
    numbers = "1 -1_0 1.5 1. .5 1e3 1e 1_ 1__0 1._5 null True nan +Inf [n]ull [1].5 1.*"
    entries += numbers.split()
    parser, wrong = OverridesParser.create(), []
    for entry in entries:
        key = f"optimizer.lr_scale@{entry}"
        try:
            [parsed] = parser.parse_overrides(spaces.overrides({key: 1}))
            as_it_is = parsed.value() == {entry: 1}
        except HydraException:
            as_it_is = False
        config = cfg.Config(sweep=cfg.Sweep(optuna=cfg.Optuna(space={key: cfg.Parameter(low=0, high=1)})))
        if as_it_is == any(problems(config)):
            wrong.append(entry)
    assert not wrong


def test_the_layers_of_a_network_are_varied_by_their_patterns():
    config = composed("compression=fpgm", "+sweep/optuna=layers")
    space, _ = spaces.of(config.sweep.optuna.space, [])
    texts = spaces.overrides({key: value.choices[0] if value.choices else 0.25 for key, value in space.items()})
    ratios = composed(*texts).compression.prune.ratios
    assert ratios == {"conv[2-6].*": 0.25, "conv[7-9].*": 0.25, "conv1[0-6].*": 0.25}


@pytest.mark.parametrize(
    ("sampler", "space", "message"),
    [
        ("tpe", {}, "nothing would be varied"),
        ("grid", {"lr": spaces.Dimension((), 0, 1)}, "lr may be any number"),
        ("cmaes", {"lr": spaces.Dimension((), 0, 1)}, "two numbers"),
        ("cmaes", {"lr": spaces.Dimension((), 0, 1), "loss": spaces.Dimension(("a", "b"))}, "loss has choices"),
    ],
)
def test_a_space_that_a_sampler_cannot_search_is_refused(sampler, space, message):
    with pytest.raises(ConfigError, match=message):
        spaces.refuse(cfg.Optuna(sampler=cfg.SearchSampler[sampler]), space)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("++sweep.optuna.space={optimizer.lrr:{low:1,high:2}}", "no such key. Did you mean 'optimizer.lr'?"),
        ("++sweep.optuna.space={optimiser:{choices:[sgd]}}", "Did you mean 'optimizer'?"),
        ("++sweep.optuna.space={train.ema:{low:1}}", "train.ema: needs choices, or low and high"),
        ("++sweep.optuna.space={train.ema:{low:2,high:1}}", "low=2 must be below high=1"),
        ("++sweep.optuna.space={train.ema:{low:0,high:1,log:true}}", "with log=true it must be above 0"),
        ("++sweep.optuna.space={train.ema:{low:1,high:2,choices:[1]}}", "not both"),
        ("++sweep.optuna.space={train.epochs:{low:1,high:2.5,integer:true}}", "must be integers"),
        ("++sweep.optuna.space={train.ema:{low:1,high:2,log:true,step:0.1}}", "log=true has no steps"),
        ("++sweep.optuna.space={train.ema@x:{low:0,high:1}}", "train.ema is not a mapping"),
        (
            "++sweep.optuna.space={optimizer.lr_scale@1:{low:0,high:1}}",
            "Write optimizer.lr_scale@[1], which is the same",
        ),
        ("sweep.optuna.trials=0", "sweep.optuna.trials=0: must be at least 1"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_the_remedy(config_of, override, message):
    with pytest.raises(ConfigError) as refused:
        config_of(SEARCH, override)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("cost", "override", "message"),
    [
        ("size_mb", "deploy.formats=[]", "deploy.formats=[] exports none. Use deploy.formats=[onnx]"),
        ("size_mb", "deploy.formats=[safetensors]", "deploy.formats=[safetensors] exports none"),
        ("latency_ms_p50", "deploy.formats=[safetensors]", "deploy.formats=[safetensors] exports none"),
        ("latency_ms_p50", "deploy.bench_s=0", "deploy.bench_s=0 turns it off. Use deploy.bench_s=0.3"),
    ],
)
def test_a_cost_that_no_run_would_have_is_refused_and_others_are_not(config_of, cost, override, message):
    for accepted in ("params", "macs", *(["size_mb"] if "bench_s" in override else [])):
        config_of(SEARCH, f"sweep.optuna.minimize=[{accepted}]", override)
    config_of(SEARCH, f"sweep.optuna.minimize=[{cost}]", "deploy.formats=[paddle,safetensors]")
    with pytest.raises(ConfigError) as refused:
        config_of(SEARCH, f"sweep.optuna.minimize=[macs,{cost}]", override)
    assert f"sweep.optuna.minimize: {cost} " in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("train", "minimize", "expected"),
    [
        (cfg.Train(), [], ["maximize"]),
        (cfg.Train(monitor="val/macro_f1"), [], ["maximize"]),
        (cfg.Train(monitor="val/loss"), [cfg.Cost.macs], ["minimize", "minimize"]),
        (cfg.Train(monitor="val/student/regret", metrics={"regret": cfg.CustomMetric("a.b:c", cfg.Goal.min)}), [],
         ["minimize"]),
    ],
)  # fmt: skip
def test_what_is_best_follows_from_the_goal(train, minimize, expected):
    assert spaces.directions(train, minimize) == expected
