"""Values of a Python program reach their keys as they are, whatever is in them."""

from __future__ import annotations

import collections
import math
import re
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner.cli.overrides import readable
from runner.cli.values import assignments, literal, number_of
from runner.errors import ConfigError
from runner.terminal import MEANING
from tests.cli.test_overrides import value_of

KEYS = st.from_regex(r"[A-Za-z_][\w]*", fullmatch=True).filter(lambda key: key.isascii() and key.lower() not in MEANING)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def parsed(text):
    """What Hydra and OmegaConf make of the value of an override."""
    value = OverridesParser.create().parse_override(text).value()
    return OmegaConf.to_container(OmegaConf.create({"key": value}), resolve=True)["key"]


@given(VALUES)
def test_hydra_reads_the_value_that_was_given(value):
    assert parsed(f"key={literal(value, 'key')}") == value


@given(VALUES)
def test_what_is_read_has_the_type_that_was_given(value):
    assert type(parsed(f"key={literal(value, 'key')}")) is type(value)


@given(st.text(st.sampled_from("aZ_9/-\\+.$%*@?|()[]{}:=, \t"), min_size=1))
def test_a_key_of_a_mapping_is_the_key_that_was_given_or_is_refused(name):
    try:
        text = literal({name: 1}, "key")
    except ConfigError:
        # Hydra has no quotes for keys: these it reads as something else.
        assert re.fullmatch(r"[+-]?\d+|[+-]?(\d+\.\d*|\d*\.\d+)", name)
    else:
        assert OverridesParser.create().parse_override(f"key={text}").value() == {name: 1}


def test_patterns_of_layers_are_keys():
    pattern = {"*.bn.*": 0.1, "conv[12]?": 0.5}
    [override] = assignments({"optimizer.lr_scale": pattern})
    assert value_of(override) == pattern


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("0.01", "optimizer.lr", 0.01), ("3", "train.epochs", 3), ("1e-3", "optimizer.lr", 0.001),
        ("2024", "name", "2024"), ("null", "train.max_steps", None), ("cls", "mode", "cls"),
        ("${x}", "optimizer.lr", "${x}"),
    ],
)  # fmt: skip
def test_the_text_of_an_override_becomes_the_number_that_its_key_holds(text, key, value):
    assert number_of(text, key) == value
    assert type(number_of(text, key)) is type(value)


@given(TEXTS.filter(lambda text: text and not text.startswith("~")))
def test_a_path_is_the_path_that_was_given(path):
    override = readable(next(assignments({"data.root": path})), sweeps=False)
    assert parsed(override) == path


@pytest.mark.parametrize(
    "path", ["/x/my set (1), new", "it's [a] {b}=c", "/a/$HOME/${b}", r"C:\a b\c", "ends with \\", "null", "2024"]
)
def test_a_path_reaches_the_config(path):
    [override] = assignments({"data.root": Path(path)})
    assert value_of(override, "data=image_folder") == path


class Colour(Enum):
    red = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), "0.5"), (np.int64(3), "3"), (math.inf, "inf"), (Colour.red, "red"), ((1, None), "[1,null]"),
        (np.bool_(True), "true"), (np.array([0.1, 1]), "[0.1,1.0]"), (np.array(3), "3"), (range(2), "[0,1]"),
        (test_a_path_reaches_the_config, "'tests.cli.test_values:test_a_path_reaches_the_config'"),
    ],
)  # fmt: skip
def test_other_values_are_written_as_hydra_has_them(value, text):
    assert literal(value, "key") == text


def test_a_section_is_a_dictionary_and_a_list_is_swept_over():
    values = {"train": {"epochs": 3, "plots": False}, "mode": ["cls", "cls_distill"], "launch.devices": [0, 1]}
    assert list(assignments(values, sweeps=True)) == [
        "train.epochs=3", "train.plots=false", "mode=cls,cls_distill", "launch.devices=[0,1]",
    ]  # fmt: skip


@pytest.mark.parametrize("values", [range(2), np.arange(2), (np.int64(0), 1), collections.deque([0, 1]), [0, 1]])
def test_any_sequence_is_swept_over(values):
    assert list(assignments({"train.seed": values}, sweeps=True)) == ["train.seed=0,1"]
    assert list(assignments({"launch.devices": values}, sweeps=True)) == ["launch.devices=[0,1]"]


def test_nothing_is_not_swept_over():
    for values in ([], range(0), np.array([])):
        with pytest.raises(ConfigError, match="nothing to sweep over"):
            list(assignments({"train.seed": values}, sweeps=True))


def test_what_no_config_holds_is_refused():
    for value in (object(), {"é": 1}, {"null": 1}, {1: 2}, lambda: None, b"bytes"):
        with pytest.raises(ConfigError, match=r"key: "):
            literal(value, "key")


def test_what_only_the_notebook_has_is_refused_with_the_remedy():
    def watch():
        pass

    watch.__module__, watch.__qualname__ = "__main__", "watch"
    with pytest.raises(ConfigError, match=r"__main__:watch.*%%writefile"):
        list(assignments({"train.callbacks": [{"target": watch}]}))
    with pytest.raises(ConfigError, match=r"__main__:watch.*%%writefile"):
        value_of("train.callbacks=[{target:__main__:watch}]")
