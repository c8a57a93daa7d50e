"""What launchers are like, and what they need besides what a user says."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from runner.cli import compose, engines, sweep


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "a.BasicLauncher"}, 1),
        ({"_target_": "a.JoblibLauncher", "n_jobs": 2}, 2),
        ({"_target_": "a.JoblibLauncher", "n_jobs": 9}, 4),
        ({"_target_": "a.SlurmLauncher"}, 4),
        ({"_target_": "a.Unknown"}, 4),
        ({"_target_": "a.RayLauncher", "ray": {"init": {"num_cpus": 2}, "remote": {"num_cpus": 2}}}, 1),
        ({"_target_": "a.RayLauncher", "ray": {"init": {"address": "auto"}, "remote": {}}}, 4),
    ],
)
def test_jobs_wait_for_others_where_this_machine_runs_fewer_at_once(launcher, expected):
    assert engines.side_by_side(OmegaConf.create(launcher), 4) == expected


RAY = ["name=many", "train.seed=0,1", "hydra/launcher=ray", "hydra.sweep.dir=sweep"]
ADDRESS = "+hydra.launcher.ray.init.address=10.0.0.1:6379"
MEMORY = "+hydra.launcher.ray.init.object_store_memory"


@pytest.mark.parametrize(
    ("further", "absolute", "needed"),
    [
        ([], False, []),
        ([ADDRESS], True, [f"{MEMORY}=null"]),
        ([ADDRESS, f"{MEMORY}=null"], True, []),
    ],
)
def test_a_cluster_of_rays_is_joined_without_settings_of_its_own_and_finds_the_folder(further, absolute, needed):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    compose.register()
    directory, _, _, added = sweep.plan_sweep([*RAY, *further])
    assert (directory.is_absolute(), added) == (absolute, needed)
