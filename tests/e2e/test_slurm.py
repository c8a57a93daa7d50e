"""SLURM itself: the jobs of a sweep, and one run over two nodes, put back into the queue and going on."""

from __future__ import annotations

import sys

import pytest

from runner.runs.journal import events
from tests.e2e import slurm
from tests.e2e.processes import ENVIRONMENT, has_logged, mlflow_runs, start, wait_until

pytestmark = pytest.mark.skipif(not slurm.is_installed(), reason="no SLURM, or not root")
SLOW = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=80",
        "schedule.warmup_epochs=0", "train.epochs=6", "train.log_every=1", "deploy.formats=[]"]  # fmt: skip
#: As docs/operations.md has it, without GPUs, and with a folder of its own for each node.
BATCH = """\
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --signal=TERM@120 --requeue
srun bash -c 'mkdir -p $SLURM_NODEID; cd $SLURM_NODEID; {python} -m runner launch=cluster launch.nnodes=$SLURM_NNODES \\
    launch.rank=$SLURM_NODEID launch.master=127.0.0.1:{port} launch.nproc_per_node=1 hydra.run.dir=run \\
    checkpoint.resume=auto {words}'
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.Slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def again(cluster, job):
    """Let a job that waits after it was put back start at once: SLURM holds it for two minutes."""
    wait_until(lambda: cluster.command("squeue", "-h", "-j", job, "-o", "%T") == "PENDING", 90)
    cluster.command("scontrol", "update", f"JobId={job}", "StartTime=now")


def happened(directory):
    return [event["event"] for event, _ in events(directory)]


def test_a_job_of_a_sweep_that_slurm_preempts_goes_on_from_its_checkpoint(cluster, tmp_path):
    sweep = [*SLOW, "-m", "train.seed=0,1", "hydra.sweep.dir=sweep", "hydra/launcher=slurm"]
    command = start(*sweep, "hydra.launcher.cpus_per_task=1", cwd=tmp_path, env=cluster.environment | {"STEP_S": "0.2"})
    first, second = (tmp_path / "sweep" / f"{number}_train.seed-{number}" for number in range(2))
    wait_until(lambda: has_logged(first, 2) and has_logged(second, 2), process=command)
    array = cluster.command("squeue", "-h", "-o", "%F").split()[0]
    cluster.command("scancel", "--signal=USR2", f"{array}_0")
    cluster.command("scontrol", "requeue", f"{array}_1")
    for number in range(2):
        again(cluster, f"{array}_{number}")
    said, errors = command.communicate(timeout=120)
    assert command.returncode == 0, said + errors
    assert said.count("FINISHED") == 2
    for job in (first, second):
        assert happened(job).count("resumed") == 1
    _, runs = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_a_run_over_two_nodes_is_put_back_into_the_queue_and_ends_as_if_nothing_had_happened(cluster, tmp_path):
    from tests.e2e.processes import free_port

    script = BATCH.format(python=sys.executable, port=free_port(), words=" ".join([*SLOW, "train.threads=1"]))
    (tmp_path / "job.sh").write_text(script)
    environment = ",".join(
        f"{name}={value}" for name, value in (("PYTHONPATH", ENVIRONMENT["PYTHONPATH"]), ("STEP_S", "0.2"))
    )
    job = cluster.command(
        "sbatch", "--parsable", "-D", str(tmp_path), f"--export=ALL,{environment}", str(tmp_path / "job.sh")
    )
    run = tmp_path / "0" / "run"
    wait_until(lambda: has_logged(run, 2))
    cluster.command("scontrol", "requeue", job)
    wait_until(lambda: "ended" in happened(run))
    again(cluster, job)
    wait_until((run / "result.json").exists, 90)
    assert happened(run).count("resumed") == 1
    wait_until(lambda: not cluster.command("squeue", "-h"))
