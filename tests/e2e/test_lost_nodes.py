"""Sweeps of many jobs over two nodes, SLURM's and Ray's, of which one is lost on the way: no job and no point is."""

from __future__ import annotations

import os
import re

import pytest

from tests.conftest import TINY
from tests.e2e import slurm
from tests.e2e.processes import assert_mlflow_has_every_point_once, mlflow_runs, run, start, wait_until

#: `RUNNER_EVERY_LAUNCHER=1` has as many as a cluster would.
JOBS = 200 if "RUNNER_EVERY_LAUNCHER" in os.environ else 12
SWEEP = [*TINY, "-m", f"train.seed=range({JOBS})", "hydra.sweep.dir=sweep"]
#: A job has some seconds of work, imports among them.
PATIENCE_S = 120 + 15 * JOBS


def results(folder):
    return len(list(folder.glob("sweep/*/result.json")))


def assert_complete(folder, code, said):
    """What was lost with the node is told, and `sweep.resume=true` completes it; MLflow has every point once."""
    lost = said.count("FAILED") + said.count("KILLED")
    assert said.count("FINISHED") + lost == JOBS, said
    if code:
        assert 0 < lost < JOBS
        assert run(*SWEEP, "sweep.resume=true", cwd=folder, timeout=PATIENCE_S).returncode == 0
    assert results(folder) == JOBS
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    _, runs = mlflow_runs(uri)
    assert len(runs) == JOBS
    assert {found.info.status for found in runs} == {"FINISHED"}
    for directory in folder.glob("sweep/*/"):
        if re.match(r"\d+_", directory.name):
            assert_mlflow_has_every_point_once(uri, directory)


@pytest.mark.skipif(not slurm.is_installed(), reason="no SLURM, or not root")
def test_slurm_loses_a_node(tmp_path, tmp_path_factory):
    with slurm.Slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        launcher = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=4"]
        command = start(*SWEEP, *launcher, cwd=tmp_path, env=cluster.environment)
        wait_until(lambda: results(tmp_path) >= JOBS // 6, PATIENCE_S, command)
        cluster.lose("n2")
        assert results(tmp_path) < JOBS
        # SLURM holds what it has put back for two minutes.
        wait_until(lambda: cluster.let_waiting_jobs_start() == 0 or command.poll() is not None, PATIENCE_S)
        said, errors = command.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in said + errors
    assert_complete(tmp_path, command.returncode, said)


def test_ray_loses_a_node(tmp_path):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        launcher = ["hydra/launcher=ray", f"+hydra.launcher.ray.init.address={cluster.address}"]
        command = start(*SWEEP, *launcher, cwd=tmp_path)
        wait_until(lambda: results(tmp_path) >= JOBS // 6, PATIENCE_S, command)
        cluster.remove_node(other, allow_graceful=False)
        assert results(tmp_path) < JOBS
        said, errors = command.communicate(timeout=PATIENCE_S)
    finally:
        cluster.shutdown()
    assert command.returncode in (0, 5), said + errors
    assert_complete(tmp_path, command.returncode, said)
