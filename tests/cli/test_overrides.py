"""What is typed for an override reaches its key as it was meant, whatever Hydra's grammar makes of it."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.cli.compose import config_of
from runner.cli.overrides import readable
from runner.cli.shown_errors import message_of
from runner.cli.sweep import plan_sweep
from runner.cli.train import _overrides_first
from runner.config import store
from runner.errors import ConfigError
from tests.conftest import composed

FOLDER = ["data=image_folder"]


def value_of(override, *others):
    """What a run's config has for the key of an override."""
    key = override.partition("=")[0].lstrip("+")
    config = composed(*(readable(text, sweeps=False) for text in (*others, override)))
    plain = store.to_plain(config)
    for part in key.split("."):
        plain = plain[part]
    return plain


@pytest.mark.parametrize(
    "text",
    [
        "/x/my set (1), new", "it's [a] {b}=c", "/x/数据", "2024", "2024_01", "7e10", "12e4567", "1_0.5", "true", "nan",
        "[x]", "{x:1}", "a=b", "a:b", "x y", r"C:\a b\c", "ends with \\", "a#b;c&d", "(", "a]", "€ä", "0x10", "-1",
        "+5",
    ],
)  # fmt: skip
def test_a_folder_is_the_text_that_was_typed(text):
    assert value_of(f"data.root={text}", *FOLDER) == text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=2024_01", "2024_01"), ("name=7e10", "7e10"), ("name=数据", "数据"),
        ("+tracking.tags.commit=12e4567", "12e4567"),
        ("+tracking.tags={commit:12e4567,b:x y,c:'1'}", {"commit": "12e4567", "b": "x y", "c": "1"}),
        ("name='2024_01'", "2024_01"), ("checkpoint.init_from=null", None), ("checkpoint.init_from=", None),
        ("train.max_steps=1_000", 1000), ("optimizer.lr=7e-3", 7e-3), ("train.plots=false", False),
        ("checkpoint.init_from=a/sweeps/1f/0_mode-cls_optimizer.lr-0.01", "a/sweeps/1f/0_mode-cls_optimizer.lr-0.01"),
    ],
)  # fmt: skip
def test_a_key_of_text_keeps_its_text_and_others_their_type(override, value):
    if override.endswith("="):
        with pytest.raises(ConfigError, match="is empty"):
            value_of(override)
    else:
        assert value_of(override) == value


def test_what_is_looked_up_still_is(monkeypatch):
    monkeypatch.setenv("SETS", "/x/2024_01")
    assert value_of("data.root=${oc.env:SETS}", *FOLDER) == "/x/2024_01"
    assert value_of("data.root=${oc.env:SETS}/new (1)", *FOLDER) == "/x/2024_01/new (1)"
    assert value_of("name=run-${train.seed}") == "run-0"


def test_a_home_directory_is_written_out_in_paths_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert value_of("data.root=~/photos (1)", *FOLDER) == "/home/ada/photos (1)"
    assert value_of("checkpoint.init_from=~/w.pdparams") == "/home/ada/w.pdparams"
    assert value_of("mode.teacher_from=~", "mode=cls_teacher") == "/home/ada"
    assert value_of("checkpoint.resume=~/run") == "/home/ada/run"
    assert value_of("tracking.uri=sqlite:///~/mlflow.db") == "sqlite:////home/ada/mlflow.db"
    assert value_of("tracking.also.tensorboard.folder=~/board", "tracking=tensorboard") == "/home/ada/board"
    assert value_of("data.root=a/~", *FOLDER) == "a/~"
    assert value_of("+tracking.tags.a=~/x") == "~/x"
    assert readable("hydra.run.dir=~/runs/a", sweeps=False) == "hydra.run.dir=/home/ada/runs/a"
    assert readable("hydra.sweep.dir='~/a b'", sweeps=True) == "hydra.sweep.dir='/home/ada/a b'"
    assert readable("hydra.run.dir=2024_01", sweeps=False) == "hydra.run.dir='2024_01'"


@pytest.mark.parametrize(
    ("override", "value", "others"),
    [
        ("launch.devices=0,1", [0, 1], []),
        ("launch.devices=1", [1], []),
        ("deploy.formats=onnx", ["onnx"], []),
        ("deploy.formats=onnx,paddle", ["onnx", "paddle"], []),
        ("deploy.formats=[]", [], []),
        ("data.mean=0.1,0.2,0.3", [0.1, 0.2, 0.3], []),
        ("features.layers=conv4,1_0", ["conv4", "1_0"], ["mode=cls_distill", "features=attention_transfer"]),
        ("train.callbacks={target:a:B}", [{"target": "a:B", "kwargs": {}}], []),
        ("train.callbacks=a.b:C", [{"target": "a.b:C", "kwargs": {}}], []),
        ("train.callbacks=[a:B, 'c:D']", [{"target": "a:B", "kwargs": {}}, {"target": "c:D", "kwargs": {}}], []),
        (
            "train.callbacks=[a:B,{target:c:D,kwargs:{x:[e:f,g:h],y:i:j}}]",
            [{"target": "a:B", "kwargs": {}}, {"target": "c:D", "kwargs": {"x": ["e:f", "g:h"], "y": "i:j"}}], [],
        ),
    ],
)  # fmt: skip
def test_a_list_needs_no_brackets(override, value, others):
    assert value_of(override, *others) == value


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("+experiment=digits/best", "experiment=digits/best"), ("++mode=cls", "mode=cls"),
        ("debug=fast_dev_run", "+debug=fast_dev_run"), ("+debug=fast_dev_run", "+debug=fast_dev_run"),
        ("sweep/optuna=optimizer", "+sweep/optuna=optimizer"),
        ("+model@mode.peer=resnet18", "+model@mode.peer=resnet18"),
        ("~features", "~features"), ("+model.kwargs.width=64", "+model.kwargs.width=64"),
    ],
)  # fmt: skip
def test_whether_a_group_is_added_or_replaced_is_known(typed, taken):
    assert readable(typed, sweeps=False) == taken


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("name=2024_01,2024_02", ["2024_01", "2024_02"]),
        ("data.root=choice(/a/2024,1_0)", ["/a/2024", "1_0"]),
        ("data.root='/x/my set (1)','/x/b, c'", ["/x/my set (1)", "/x/b, c"]),
        ("model=resnet18,resnet50", ["resnet18", "resnet50"]),
        ("name=range(1,3)", [1, 2]),
        ("train.seed=1_0,2", [10, 2]),
    ],
)
def test_the_values_of_a_sweep_are_those_that_were_typed(override, values):
    [parsed] = OverridesParser.create().parse_overrides([readable(override, sweeps=True)])
    assert [str(getattr(value, "text", value)) for value in parsed.sweep_iterator()] == [str(value) for value in values]


def test_devices_are_no_sweep_and_other_lists_may_be_one():
    assert readable("launch.devices=0,1", sweeps=True) == "launch.devices=[0,1]"
    assert readable("deploy.formats=[onnx],[paddle]", sweeps=True) == "deploy.formats=[onnx],[paddle]"


def test_a_text_that_may_be_several_of_a_sweep_is_left_to_be_quoted():
    assert readable("data.root=/x/my set (1),b", sweeps=True) == "data.root=/x/my set (1),b"
    assert readable("data.root='/x", sweeps=False) == "data.root='/x"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=",(\0$'\"\\"), min_size=1))
def test_any_text_without_a_meaning_of_hydra_s_own_is_taken_as_it_is(text):
    typed = readable(f"data.root={text}", sweeps=False)
    [parsed] = OverridesParser.create().parse_overrides([typed])
    value = parsed.value()
    assert (
        value is None
        if text.lower().strip(" \t") == "null"
        else value == (text if typed.endswith("'") else text.strip(" \t"))
    )


def test_overrides_may_stand_behind_flags():
    given = ["mode=cls", "--cfg", "job", "name=x", "~features", "-cd", "a=b", "--info"]
    assert _overrides_first(given, False) == ["mode=cls", "name=x", "~features", "--cfg", "job", "-cd", "a=b", "--info"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compression=lsq", "compression.prune={ratio:0.4}"],
            r"compression\.prune is null here .* Choose compression=fpgm\|fpgm_qat first, then compression",
        ),
        (
            ["compression=qat", "compression.prune.ratio=0.3"],
            r"compression\.prune is null here .* Choose compression=fpgm",
        ),
        (["sweep.optuna.trials=3"], r"sweep\.optuna is null here .* Choose \+sweep/optuna=default"),
        (["optimizer.lr=0.1", "mimic.weight=2"], r"mimic is null here .* Choose mimic=CHOICE"),
        (["mode=cls_distill", "mode.peer={scale:0.5}"], r"mode\.peer is null here .* Choose model@mode\.peer=CHOICE"),
    ],
)
def test_keys_of_what_is_null_are_refused_with_the_choice_that_has_them(words, message):
    with pytest.raises(ConfigError, match=message):
        config_of(words)


def test_a_key_that_every_config_has_cannot_be_removed():
    with pytest.raises(ConfigError, match=r"~train\.seed: every config has this key"):
        config_of(["~train.seed"])


def test_keys_of_a_mapping_are_text():
    with pytest.raises(ConfigError, match=r"Write \+optimizer\.lr_scale\.1=VALUE"):
        config_of(["+optimizer.lr_scale={1:2}"])
    assert config_of(["+optimizer.lr_scale.1=2"]).optimizer.lr_scale == {"1": 2.0}
    assert config_of(["loss.class_weights={0:2}"]).loss.class_weights == {0: 2}
    assert config_of(["loss.class_weights={cat:0}"]).loss.class_weights == {"cat": 0}


@pytest.mark.parametrize("sign", ["", "+", "++", "~"])
@pytest.mark.parametrize("key", ["name", "data.limit", "hydra.run.dir", "model.kwargs.width", "mimic@also"])
@pytest.mark.parametrize("value", ["9" * 5000, "-" + "9" * 5000, "[" + "9" * 5000 + "]", "{a:" + "9" * 5000 + "}"])
def test_a_number_of_more_digits_than_python_reads_is_one_message_that_names_the_key(sign, key, value):
    with pytest.raises(ConfigError) as refused:
        readable(f"{sign}{key}={value}", sweeps=True)
    shown = message_of(refused.value)
    assert key in shown
    assert "5,00" in shown
    assert len(shown) < 300


@given(st.integers(0, 10_000), st.sampled_from("x[({,9 "))
def test_a_message_is_bounded_whatever_a_word_has(length, letter):
    shown = message_of(ConfigError(f"begin {letter * length} end"))
    assert len(shown) < 4100
    assert shown.startswith("begin ")
    assert shown.endswith(" end")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.job.chdir=true", "which a run keeps"), ("hydra.searchpath=[file:///nowhere]", "no folder /nowhere"),
        ("hydra.searchpath=pkg://nosuch.conf", "no package 'nosuch.conf'"),
        ("data.root=glob(*)", "which 'data.root' is not"),
        ("optimizer=glob(zz*)", "matches no choice. Valid: adamw"),
    ],
)  # fmt: skip
def test_what_hydra_would_leave_out_or_fail_at_is_refused(word, message):
    with pytest.raises(ConfigError) as refused:
        readable(word, sweeps=True)
    assert message in str(refused.value)


def test_a_pattern_stands_for_the_choices_of_a_group():
    assert readable("optimizer=glob([*prop,mom*])", sweeps=True) == "optimizer=momentum,rmsprop"
    assert readable("experiment=glob(digits/d*)", sweeps=True) == "experiment=digits/distill,digits/distill_multiopt"
    pattern = "experiment=glob([compress/*,fashion/*],exclude=*fpgm*)"
    assert readable(pattern, sweeps=True) == "experiment=compress/ptq,compress/qat,fashion/best,fashion/distil"
    peer = "optimizer@mode.peer_optimizer=glob(rms*)"
    assert readable(peer, sweeps=True) == "optimizer@mode.peer_optimizer=rmsprop"
    with pytest.raises(ConfigError, match="add -m"):
        readable("optimizer=glob(*m*)", sweeps=False)


def test_values_that_a_sweep_has_twice_are_refused():
    for word in ("train.seed=0,1,0", "train.seed=choice(3,3)"):
        with pytest.raises(ConfigError, match=r"has [03] more than once: those jobs would be the same"):
            plan_sweep([word])


@pytest.mark.parametrize("sign", ["", "+"])
@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("optimizer.lr_scale", ["optimizer.lr_scale={a:2,b:3}"]),
        ("optimizer.lr_scale", ["experiment=finetune/few_shot", "data.root=DIR"]),
        ("model.kwargs", ["model=resnet18", "model.kwargs={width:32}"]),
    ],
)
def test_an_empty_mapping_replaces_what_there_was(sign, key, others):
    assert value_of(f"{sign}{key}={{}}", *others) == {}
    assert value_of(f"{sign}{key}={{}}", *others, f"{key}={{}}") == {}


def test_a_mapping_is_added_to_what_there_was_and_to_nothing_once_it_was_emptied():
    first = ["experiment=finetune/few_shot", "data.root=DIR"]
    key = "optimizer.lr_scale"
    assert value_of(f"{key}={{stem:0.5}}", *first) == {"backbone": 0.1, "stem": 0.5}
    assert value_of(f"{key}={{stem:0.5}}", *first, f"{key}={{}}") == {"stem": 0.5}
