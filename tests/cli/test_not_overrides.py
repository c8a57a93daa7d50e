"""What is suggested for a mistyped word is taken as it was meant, by a shell and by Hydra."""

from __future__ import annotations

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import __main__ as main
from runner import config as cfg
from runner.cli import not_overrides
from runner.config.keys import unknown_key
from runner.errors import ConfigError
from runner.runs import compatible

#: Names of folders as people give them.
NAME = st.text(st.sampled_from("ab1 '_-.äé(),&"), min_size=1, max_size=12).filter(lambda name: name.strip(" .") == name)


def suggested(message):
    """The overrides that a message suggests: (key or group, value), as Hydra reads what a shell gives."""
    text = re.search(r"Did you mean (.*)\?", message)[1]
    parsed = OverridesParser.create().parse_overrides(shlex.split(text))
    return [(one.key_or_group, str(one.value())) for one in parsed]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAME)
def test_a_folder_is_suggested_as_the_set_that_it_is(tmp_path, name):
    (tmp_path / name).mkdir(exist_ok=True)
    message = str(not_overrides.error_of(str(tmp_path / name)))
    assert suggested(message) == [("data", "image_folder"), ("data.root", str(tmp_path / name))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("ab1_-.'ä()&"), min_size=1), min_size=2, max_size=4), st.integers(1, 3))
def test_the_words_of_a_path_are_joined_again(tmp_path, parts, at):
    (tmp_path / " ".join(parts)).mkdir(exist_ok=True)
    words = ["mode=cls", f"data.root={tmp_path}/{parts[0]}", *parts[1:], "train.seed=1"]
    with pytest.raises(ConfigError) as refused:
        not_overrides.refuse(words)
    assert suggested(str(refused.value)) == [("data.root", f"{tmp_path}/{' '.join(parts)}")]


@given(st.text(st.sampled_from("ab_-. /"), min_size=1, max_size=12).filter(lambda text: text.strip() == text))
def test_a_mistyped_key_is_suggested_with_its_value(value):
    error = unknown_key("data.rot", ["root"], ["data.root"], f"data.rot={value}")
    assert suggested(str(error)) == [("data.root", value)]


def test_a_quoted_path_can_be_read():
    message = str(unknown_key("data.rot", ["root"], ["data.root"], "data.rot=../my photos"))
    assert "Did you mean 'data.root=../my photos'?" in message


def test_what_a_run_was_started_with_can_be_repeated():
    overrides = ["data.root=../my photos", "augment=[photos,trivial]"]
    with pytest.raises(ConfigError) as refused:
        compatible.check(cfg.Config(), cfg.Config(train=cfg.Train(seed=7)), "x", overrides)
    [line] = [line for line in str(refused.value).splitlines() if line.startswith("It was started with: ")]
    assert shlex.split(line.partition(": ")[2]) == overrides


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "image_folder", "data.root=x"], "image_folder is not an override. Did you mean data=image_folder?"),
        (["image_folder"], "Unknown command 'image_folder'. Did you mean data=image_folder?"),
        (["train.epochs=1,", "2"], "2 is not an override. Write several values without spaces: train.epochs=1,2"),
        (
            ["data.root=no", "photos"],
            "photos is not an override. Did you mean augment=photos? If it belongs to the value before "
            "it, quote them together: 'data.root=no photos'",
        ),
        (["train.epochs=1", "mode", "=", "cls"], "mode is not an override. Write KEY=VALUE without spaces around ="),
        (["mode=cls", "~mimic", "trivial"], "trivial is not an override. Did you mean augment=trivial?\n"),
        (["data", "none"], "none is not an override. Write KEY=VALUE without spaces around ="),
        (["data.root=../my", "photos"], "photos is not an override. Did you mean 'data.root=../my photos'?"),
        (["../my photos", "-m"], "../my photos is not an override. Did you mean data=image_folder 'data.root=../my ph"),
        (["resume", "outputs/x"], "There is no command 'resume'. The command that began a run continues it, with"),
    ],
)
def test_a_word_of_another_kind_is_answered_with_what_was_meant(words, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "my photos").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main.command(words) == 2
    assert capsys.readouterr().err.startswith(message)
