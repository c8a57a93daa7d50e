"""Keys of the schema: their types, whichever choices are taken, and what a misspelt one is taken for."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config import Goal, keys


@pytest.mark.parametrize(
    ("key", "types"),
    [
        ("name", {str}), ("data.root", {str}), ("data.limit", {int}), ("checkpoint.init_from", {str}),
        ("optimizer.lr", {float}), ("mode.peer.architecture", {str}), ("mode.peer_optimizer.lr", {float}),
        ("tracking.tags.commit", {str}), ("tracking.also.mine.folder", {str}), ("train.metrics.k.goal", {Goal}),
        ("train.callbacks.0.target", {str}), ("data.mean", {list[float]}), ("model.kwargs.a.b", {Any}),
        ("data.nothing", set()), ("nothing", set()), ("name.nothing", set()),
    ],
)  # fmt: skip
def test_the_types_of_a_key_are_those_of_all_choices_that_have_it(key, types):
    assert keys.types_of(key) == types


VALID = ["name", "data", "optimizer", "mode", "train"]
KNOWN = [
    "name", "data.batch_size", "data.split_seed", "optimizer.lr", "mode.peer_optimizer.lr", "train.seed",
    "train.epochs",
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "override", "hint"),
    [
        ("seed", "seed=3", "Did you mean train.seed=3?"),
        ("lr", "lr=1", "Did you mean optimizer.lr=1 or mode.peer_optimizer.lr=1?"),
        ("learning_rate", "++learning_rate=0.1", "Did you mean optimizer.lr=0.1 or mode.peer_optimizer.lr=0.1?"),
        ("bs", "bs=8", "Did you mean data.batch_size=8?"),
        ("max_epochs", "max_epochs=8", "Did you mean train.epochs=8?"),
        ("epoch", "epoch=8", "Did you mean train.epochs=8?"),
        ("trainer", "trainer.seed=8", "Did you mean train.seed=8?"),
        ("optimzer", "optimzer.lr=8", "Did you mean optimizer.lr=8 or mode.peer_optimizer.lr=8?"),
        ("optimzer", "optimzer=adamw", "Did you mean optimizer=adamw?"),
        ("optimzer", "optimzer.momentums=1", "Did you mean optimizer.momentums=1?"),
        ("momentum", "momentum=0.9", "Did you mean optimizer.momentum=0.9 with optimizer=momentum"),
        (
            "optimizer.momentumm",
            "optimizer.momentumm=0.9",
            "Did you mean optimizer.momentum=0.9 with optimizer=momentum",
        ),
        ("data.rooot", "data.rooot=x", "Did you mean data.root=x with data=cifar10|cifar100|"),
        ("zzz", "zzz=1", "There is no key 'zzz' in the config.\n"),
        ("seed", "", "Did you mean train.seed?"),
        ("compression.prune", "compression.prune.macs_reduction=0.4", "compression.prune.ratio=0.4."),
        ("mode.teacher_weights", "+mode.teacher_weights=[1,2]", "'mode'. Write mode.teacher_weight=[1,2] and"),
        ("compression.prune.axis", "", "'axis' in 'compression.prune'. Remove it."),
    ],
)
def test_an_unknown_key_leads_to_the_one_that_was_meant(key, override, hint):
    assert hint in str(keys.unknown_key(key, VALID, KNOWN, override))


def test_an_old_choice_leads_to_the_new_one_and_others_of_its_group_to_none():
    error = keys.renamed("hydra/sweeper=optuna")
    assert str(error).startswith("There is no longer a hydra/sweeper=optuna. Write hydra/sweeper=search with")
    assert keys.renamed("hydra/sweeper=basic") is None
    assert keys.renamed("hydra/sweeper") is None


def test_of_keys_of_one_name_that_of_the_same_group_is_meant():
    known = ["optimizer.lr", "mode.peer_optimizer.lr"]
    error = keys.unknown_key("mode.peer_optimizer.learning_rate", ["lr"], known, "mode.peer_optimizer.learning_rate=1")
    assert "Did you mean mode.peer_optimizer.lr=1?" in str(error)


def test_what_is_suggested_for_synonyms_is_a_key():
    last = {
        key.rpartition(".")[2] for group in keys.GROUPS.values() for one in group for key in one.__dataclass_fields__
    }
    parts = last | set(keys.Config().train.__dataclass_fields__) | set(keys.Config().launch.__dataclass_fields__)
    assert set(keys.SYNONYMS.values()) <= parts


def test_a_home_directory_is_only_at_the_beginning(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert keys.expanded("~") == "/home/ada"
    assert keys.expanded("~/a/~") == "/home/ada/a/~"
    assert keys.expanded("/~/a") == "/~/a"
    assert keys.expanded("~nobody-is-called-so/a") == "~nobody-is-called-so/a"
    assert keys.expanded("http://host/~ada") == "http://host/~ada"
    assert keys.expanded("") == ""
