"""Numbers and overrides on a verb's command line: within bounds and of their key's type, or one message."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import __main__ as main
from runner.cli.verbs.arguments import bounded, separate
from runner.config import store
from runner.errors import ConfigError


@pytest.mark.parametrize(
    "arguments",
    [
        ["ui", "--port", "99999"], ["ui", "--port", "0"], ["ui", "--port", "-1"], ["ui", "--port", "http"],
        ["bench", "run", "--batch", "0"], ["bench", "run", "--batch", "1,,8"], ["bench", "run", "--batch", "1e9"],
        ["bench", "run", "--batch", "8,1000000000"], ["bench", "run", "--threads", "-1"],
        ["bench", "run", "--threads", "1.5"], ["bench", "run", "--seconds", "nan"], ["bench", "run", "--seconds", "-1"],
        ["bench", "run", "--seconds", "0"], ["bench", "run", "--seconds", "1e400"],
        ["predict", "run", "x.png", "--top", "-5"], ["predict", "run", "x.png", "--top", "9" * 5000],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)  # fmt: skip
def test_a_number_out_of_its_bounds_is_one_message(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main.command(arguments)
    assert ended.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert f"argument {arguments[-2]}: " in last
    assert "must be a" in last
    assert len(last) < 200


@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_text_is_a_number_within_its_bounds_or_refused(text):
    for kind in (int, float):
        try:
            number = bounded(kind, 1, 10)(text)
        except Exception as error:
            assert type(error).__name__ == "ArgumentTypeError"  # noqa: PT017
        else:
            assert type(number) is kind
            assert 1 <= number <= 10


def test_overrides_stand_among_names_and_a_file_is_never_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.root=1.png").touch()
    words = ["a.png", "trust=true", "data.root=x=y", "name=b", "odd=c.png", "data.root=1.png", "*.jpg"]
    names, overrides = separate(words)
    assert names == ["a.png", "odd=c.png", "data.root=1.png", "*.jpg"]
    assert overrides == ["trust=true", "data.root=x=y", "name=b"]


@pytest.fixture(scope="module")
def config_file(config_of, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    config = config_of(
        "data=image_folder", "data.root=somewhere", "+tracking.tags.commit=12", "model=custom", "model.target=a.b:c",
        "+model.kwargs.width=3", "compression=fpgm", "+compression.prune.ratios={conv:0.1}",
    )  # fmt: skip
    store.write(config, path)
    return path


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.root=2024", "2024"), ("data.root=2024_01", "2024_01"), ("name=7e10", "7e10"), ("data.root=off", "off"),
        ("data.root=null", "null"), ("data.root=/a: b #1, [c", "/a: b #1, [c"), ("data.root='x y'", "x y"),
        ("data.root=a=b", "a=b"), ("data.root=~/x", "/home/ada/x"),
        ("tracking.tags.commit=12e4567", "12e4567"), ("checkpoint.init_from=", None),
        ("checkpoint.init_from=2024-01-01", "2024-01-01"), ("checkpoint.init_from=null", None),
        ("data.limit=null", None), ("data.limit=5", 5), ("data.eval_batch_size=16", 16),
        ("optimizer.lr=1e-3", 1e-3), ("optimizer.lr=1", 1),
        ("data.mean=[0,.5,1]", [0, 0.5, 1]), ("augment.flip=true", True), ("model.kwargs.width=5", 5),
        ("compression.prune.skip=[1, off]", ["1", "off"]),
        ("model.kwargs.width=[1,{a: b}]", [1, {"a": "b"}]), ("compression.prune.ratios.conv=0.25", 0.25),
    ],
)  # fmt: skip
def test_an_overrides_text_is_what_its_keys_type_makes_of_it(config_file, monkeypatch, override, value):
    monkeypatch.setenv("HOME", "/home/ada")
    leaf = store.to_plain(store.read(config_file, [override]))
    for part in override.partition("=")[0].split("."):
        leaf = leaf[part]
    assert leaf == value


@pytest.mark.parametrize(
    "override",
    [
        "data.eval_batch_size=abc", "data.eval_batch_size=1.5", "data.eval_batch_size=true", "data.eval_batch_size=",
        "data.eval_batch_size=null", "data.eval_batch_size=[1", "data.eval_batch_size=[1]", "data.limit=2024-13-45",
        "data.limit=" + "9" * 5000, "data.limit=" + "[" * 5000, "optimizer.lr=fast", "optimizer.lr={}", "data.mean=0.5",
        "data.mean=[a,b,c]", "data.mean=[[1],2,3]", "augment.flip=maybe", "train.device=toaster", "mimic=dml",
        "compression.prune.ratios.conv=much", "data.kind=nothing",
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_an_override_of_another_type_than_its_key_is_one_message_that_names_it(config_file, override):
    with pytest.raises(ConfigError) as refused:
        store.read(config_file, [override])
    message = str(refused.value)
    assert override.partition("=")[0] in message
    assert "does not fit this version" not in message


KEYS = [
    "name", "data.root", "data.limit", "data.mean", "optimizer.lr", "train.device", "augment.flip", "mimic",
    "model.kwargs.width", "compression.prune.skip", "tracking.tags.commit", "data.kind", "augment",
]  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(KEYS), st.text() | st.from_regex(r"[\[{][\[\]{}:,a0 \'\"!&*-]*", fullmatch=True))
def test_any_override_is_taken_or_refused_with_a_message(config_file, key, text):
    try:
        config = store.read(config_file, [f"{key}={text}"])
    except ConfigError as error:
        assert str(error).strip()  # noqa: PT017
    else:
        yaml.safe_dump(store.to_plain(config))
