"""How often Hydra composes."""

from __future__ import annotations

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from runner import __main__ as main
from runner.cli import job
from runner.errors import RunFailed


@pytest.fixture
def composed(monkeypatch, tmp_path):
    """The overrides of every composition; nothing is trained."""
    calls, load = [], ConfigLoaderImpl._load_configuration_impl

    def noted(loader, config_name, overrides, *further, **named):
        calls.append(overrides)
        return load(loader, config_name, overrides, *further, **named)

    def not_trained(*_):
        raise RunFailed("not trained", 1)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", noted)
    monkeypatch.setattr(job.supervisor, "run", not_trained)
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_run_is_composed_once(composed):
    assert main.command(["train.seed=5"])
    assert len(composed) == 1


def test_each_job_of_a_sweep_is_composed_once_and_has_its_own_config(composed, monkeypatch):
    seeds = []

    def noted(_command, config, *_):
        seeds.append(config.train.seed)
        raise RunFailed("not trained", 1)

    monkeypatch.setattr(job.supervisor, "run", noted)
    assert main.command(["-m", "train.seed=5,6,7", "hydra.sweep.dir=sweep"])
    assert seeds == [5, 6, 7]
    for seed in seeds:
        assert sum(f"train.seed={seed}" in overrides for overrides in composed) == 1
