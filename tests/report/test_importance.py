"""What a search says of its keys: which one mattered, and how sure that is."""

from __future__ import annotations

import random

import pytest

from runner.report import importance
from runner.runs import study as studies

optuna = pytest.importorskip("optuna")
SPACE = {
    "optimizer.lr": optuna.distributions.FloatDistribution(0.001, 1, log=True),
    "++optimizer.momentum": optuna.distributions.FloatDistribution(0, 1),
    "loss": optuna.distributions.CategoricalDistribution(("a", "b")),
}


def searched(directory, trials, value):
    """A study of random choices in a folder, with what each came to."""
    study, generator = studies.create(directory, ["maximize"]), random.Random(1)
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, value(trial.params, generator))


def test_the_key_that_was_planted_matters_most_and_the_others_little(tmp_path):
    searched(tmp_path, 30, lambda params, noise: params["++optimizer.momentum"] + noise.gauss(0, 0.02))
    found = importance.of_study(tmp_path)
    first, *others = found.keys
    assert first.key == "optimizer.momentum"
    assert found.chance < first.low <= first.share <= first.high <= 1
    assert first.low > max(one.high for one in others)
    assert found.trials == 30
    assert "30 finished trials" in found.sentence


def test_where_nothing_matters_chance_explains_as_much(tmp_path):
    searched(tmp_path, 20, lambda _, noise: noise.gauss(0, 1))
    found = importance.of_study(tmp_path)
    assert all(one.share <= found.chance for one in found.keys)


def test_of_few_trials_equal_ones_and_no_search_nothing_is_said(tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "equal").mkdir()
    searched(tmp_path / "few", 9, lambda *_: 1.0)
    searched(tmp_path / "equal", 12, lambda *_: 0.5)
    assert importance.of_study(tmp_path / "few") is None
    assert importance.of_study(tmp_path / "equal") is None
    assert importance.of_study(tmp_path) is None
