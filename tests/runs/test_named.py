"""What a config may name as weights."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from runner import config as cfg
from runner import runs
from runner.cli.compose import config_of
from runner.config.fields import WEIGHTS
from runner.errors import CheckpointError, ConfigError
from runner.runs import named
from runner.runs.journal import CHECKPOINTS

TEACHER = ["mode=cls_teacher", "mimic=kd"]
#: Every key that names weights and takes no published ones → overrides with the word, and what to write in their place.
OTHERS = {
    "checkpoint.init_from": (["checkpoint.init_from=imagenet"], ["model=resnet18", "model.weights=imagenet"]),
    "mode.teacher_from": (
        [*TEACHER, "mode.teacher_from=imagenet"],
        [*TEACHER, "model@mode.teacher=NAME", "mode.teacher.weights=imagenet"],
    ),
    "mode.more_teachers.big.teacher_from": (
        [*TEACHER, "mode.teacher_from=here", "+mode.more_teachers={big:{teacher_from:imagenet}}"],
        [
            *TEACHER, "mode.teacher_from=here", "+mode.more_teachers={big:{}}",
            "+model@mode.more_teachers.big.teacher=NAME", "mode.more_teachers.big.teacher.weights=imagenet",
        ],
    ),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with an entry of the name that `here` is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    return tmp_path


@pytest.mark.parametrize("key", OTHERS)
def test_the_word_for_published_weights_is_refused_where_it_is_not_understood(key, here):
    words, remedy = OTHERS[key]
    with pytest.raises(ConfigError) as refusal:
        named.refuse_missing_weights(config_of(words))
    assert str(refusal.value).startswith(f"{key}=imagenet: ")
    assert str(refusal.value).endswith(" ".join(remedy[-2:]) if "teacher" in key else remedy[-1])
    remedied = config_of([word.replace("=NAME", "=resnet18") for word in remedy])
    named.refuse_missing_weights(remedied)
    assert [model.architecture for model in named.published(remedied)] == ["resnet18"]


def test_every_key_that_names_weights_says_whether_it_takes_published_ones():
    schemas = [one for one in vars(cfg).values() if isinstance(one, type) and dataclasses.is_dataclass(one)]
    naming = {
        field.name
        for schema in schemas
        for field in dataclasses.fields(schema)
        if field.metadata.get(WEIGHTS) and not issubclass(schema, cfg.Model)
    }
    assert naming == {key.rpartition(".")[2] for key in OTHERS}


def test_every_kind_of_file_is_named_where_weights_are_asked_for():
    page = Path(__file__).parents[2].joinpath("docs", "weights.md").read_text()
    schema = inspect.getsource(cfg.Model)
    for suffix in runs.WEIGHT_SUFFIXES:
        assert f"`{suffix}`" in page
        assert f"`{suffix}`" in schema
        assert suffix in runs.WEIGHT_FILES


def test_a_run_of_that_name_is_one_and_a_folder_of_images_is_not(here):
    config = config_of(["checkpoint.init_from=imagenet"])
    (here / "imagenet" / "train").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"^checkpoint\.init_from=imagenet: .* model\.weights=imagenet$"):
        named.refuse_missing_weights(config)
    (here / "imagenet" / CHECKPOINTS).mkdir()
    named.refuse_missing_weights(config)


def test_a_folder_of_that_name_is_named_by_a_path(here):
    (here / "imagenet").mkdir()
    config = config_of(["model=resnet18", "model.weights=./imagenet"])
    named.refuse_missing_weights(config)
    assert not list(named.published(config))


def test_weights_that_are_nowhere_are_refused():
    with pytest.raises(CheckpointError, match=r"^nowhere: no weights were found"):
        named.refuse_missing_weights(config_of(["checkpoint.init_from=nowhere"]))
