"""Runs of several processes: started in every way, broken in every way, stopped in every way, and going on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runner.runs.history import curves
from runner.runs.journal import tracked
from tests.e2e.processes import (
    ENVIRONMENT,
    below,
    free_port,
    gone,
    has_logged,
    mlflow_runs,
    run,
    start,
    wait_until,
    workers,
)
from tests.e2e.test_resume import assert_equal, state

#: 2 processes; 10 steps an epoch, checkpoints within it.
RUN = [
    "data=synthetic", "data.train_images=80", "data.val_fraction=0.2", "data.test_images=16", "data.batch_size=8",
    "train.epochs=3", "train.log_every=3", "checkpoint.every_steps=2", "train.threads=1", "deploy.formats=[]",
    "schedule.warmup_epochs=1", "model=mobilenet_v3_small_x0_35", "loss=custom", "loss.target=tests.samples:faulty",
]  # fmt: skip
TWO = [*RUN, "launch.nproc_per_node=2"]
#: From a fault to the end of everything.
LIMIT_S = 15


def fault(kind, rank, at, mark):
    return {"FAULT": kind, "FAULT_RANK": str(rank), "FAULT_AT": str(at), "FAULT_MARK": str(mark)}


def launched_by_hand():
    """The command of two processes under Paddle's own launcher, and its environment."""
    command = [
        sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "logs", "--master",
        f"127.0.0.1:{free_port()}", sys.executable, "-m", "runner", *RUN, "hydra.run.dir=run",
    ]  # fmt: skip
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "CUDA_VISIBLE_DEVICES"}
    return command, environment


def status_of(cwd):
    """What MLflow says of the only run below a folder."""
    _, [found] = mlflow_runs(f"sqlite:///{cwd / 'outputs' / 'mlflow.db'}")
    return found.info.status


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a whole run of two processes, in `run`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(*TWO, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr + (folder / "run" / "train.log").read_text()
    return folder


@pytest.mark.smoke
def test_two_processes_are_one_run_with_a_log_each(undisturbed):
    _, [found] = mlflow_runs(f"sqlite:///{undisturbed / 'outputs' / 'mlflow.db'}")
    assert found.info.status == "FINISHED"
    assert "step 3 " in (undisturbed / "run" / "train.log").read_text()
    assert (undisturbed / "run" / "ranks" / "rank1.log").is_file()
    result = json.loads((undisturbed / "run" / "result.json").read_text())
    assert result["progress"]["step"] == 24
    assert result["test_images"] == 16


def test_one_process_gets_to_the_same_place(undisturbed, tmp_path):
    done = run(*RUN, "hydra.run.dir=run", "tracking=none", "train.sync_batchnorm=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    synced = run(*TWO, "hydra.run.dir=synced", "tracking=none", "train.sync_batchnorm=true", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    alone, together = curves(tmp_path / "run"), curves(tmp_path / "synced")
    assert list(together["train/loss"]) == list(alone["train/loss"])
    assert together["train/lr"] == alone["train/lr"]
    np.testing.assert_allclose(list(together["train/loss"].values()), list(alone["train/loss"].values()), rtol=1e-2)


def test_processes_that_were_launched_by_hand_are_one_run(undisturbed, tmp_path):
    command, environment = launched_by_hand()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status_of(tmp_path) == "FINISHED"
    assert_equal(tmp_path / "run", undisturbed / "run")


def two_nodes(folder, *overrides, env=None):
    """The commands of two machines, each in a folder of its own."""
    cluster = [*RUN, "launch=cluster", "launch.nnodes=2", f"launch.master=127.0.0.1:{free_port()}", *overrides]
    nodes = []
    for rank in (0, 1):
        (folder / f"node{rank}").mkdir()
        place = folder / f"node{rank}"
        nodes.append(start(*cluster, f"launch.rank={rank}", "hydra.run.dir=run", cwd=place, env=env))
    return nodes


def test_two_nodes_without_a_common_folder_are_one_run(undisturbed, tmp_path):
    nodes = two_nodes(tmp_path)
    for node in nodes:
        _, errors = node.communicate(timeout=120)
        assert node.returncode == 0, errors
    assert_equal(tmp_path / "node0" / "run", undisturbed / "run")
    assert not (tmp_path / "node1" / "run" / "journal.jsonl").exists()
    assert not (tmp_path / "node1" / "outputs").exists()


@pytest.mark.smoke
def test_without_a_rank_the_command_of_every_node_is_printed(tmp_path):
    done = run("launch=cluster", "launch.nnodes=2", "launch.master=node0:29500", "mode=cls_distill", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().splitlines()
    assert first.startswith(
        "python -m runner launch=cluster launch.nnodes=2 launch.master=node0:29500 mode=cls_distill"
    )
    assert first.endswith("launch.rank=0")
    assert second == first.replace("launch.rank=0", "launch.rank=1")


@pytest.mark.parametrize(
    ("kind", "rank", "code", "says"),
    [
        ("kill", 1, 5, "Process 1 ended with SIGKILL"),
        ("kill", 0, 5, "Process 0 ended with SIGKILL"),
        ("raise", 1, 1, "a defect in one process"),
        ("stop", 1, 5, "Process 1 stalled"),
    ],
)
def test_a_fault_of_one_process_ends_the_run_everywhere_and_it_goes_on_as_if_nothing_had_happened(
    undisturbed, tmp_path, kind, rank, code, says
):
    command = [*TWO, "hydra.run.dir=run"]
    process = start(
        *command,
        *(["launch.timeout_s=12"] if kind == "stop" else []),
        cwd=tmp_path,
        env=fault(kind, rank, 13, tmp_path / "mark"),
    )
    wait_until((tmp_path / "mark").exists, process=process)
    processes, began = [number for _, number in below(process.pid)], time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert says in errors
    assert time.monotonic() - began < LIMIT_S + (12 if kind == "stop" else 0)
    assert gone(processes)
    assert status_of(tmp_path) == "FAILED"
    done = run(*command, "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "run", undisturbed / "run")


def test_a_run_that_may_start_again_does_so_by_itself(undisturbed, tmp_path):
    done = run(
        *TWO, "hydra.run.dir=run", "launch.max_restarts=1", cwd=tmp_path, env=fault("kill", 1, 13, tmp_path / "mark")
    )
    assert done.returncode == 0, done.stderr
    assert "start 2 of 2: Process 1 ended with SIGKILL" in done.stdout
    assert_equal(tmp_path / "run", undisturbed / "run")
    assert status_of(tmp_path) == "FINISHED"


@pytest.mark.parametrize("whom", ["the command", "every process", "process 1 alone"])
def test_sigterm_leaves_a_checkpoint_on_every_path(undisturbed, tmp_path, whom):
    command = [*TWO, "hydra.run.dir=run"]
    process = start(*command, cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), process=process)
    ranks = workers(process)
    targets = {
        "the command": [process.pid],
        "every process": [process.pid, *ranks.values()],
        "process 1 alone": [ranks[1]],
    }
    for target in targets[whom]:
        os.kill(target, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert gone(ranks.values())
    assert status_of(tmp_path) == "KILLED"
    done = run(*command, "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "run", undisturbed / "run")


def test_sigterm_to_an_outer_launcher_leaves_a_checkpoint(undisturbed, tmp_path):
    # The launcher waits 30 s for what it ends, and the first creation of a store may take longer on a busy machine.
    shutil.copytree(undisturbed / "outputs", tmp_path / "outputs")
    command, environment = launched_by_hand()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, **silent)
    wait_until(lambda: has_logged(tmp_path / "run"))
    processes = [number for _, number in below(process.pid)]
    process.terminate()
    process.wait(60)
    assert gone(processes)
    # On a busy machine the launcher may have killed what delivers before it was done.
    assert run("sync", "run", cwd=tmp_path).returncode == 0
    client, _ = mlflow_runs(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")
    assert client.get_run(tracked(tmp_path / "run")["run_id"]).info.status == "KILLED"
    done = run(*TWO, "hydra.run.dir=run", "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "run", undisturbed / "run")


@pytest.mark.parametrize(("resume", "code", "says"), [("auto", 0, "is complete"), ("never", 2, "already holds a run")])
def test_every_node_ends_as_the_first_one_where_there_is_nothing_to_train(tmp_path, resume, code, says):
    first = tmp_path / "node0"
    for rank in (0, 1):
        (tmp_path / f"node{rank}").mkdir()
    assert run(*RUN, "train.epochs=1", "schedule.warmup_epochs=0", "hydra.run.dir=run", cwd=first).returncode == 0
    cluster = ["launch=cluster", "launch.nnodes=2", f"launch.master=127.0.0.1:{free_port()}", "launch.timeout_s=30"]
    again = [*RUN, *cluster, "train.epochs=1", "schedule.warmup_epochs=0", f"checkpoint.resume={resume}"]
    nodes = [start(*again, f"launch.rank={rank}", "hydra.run.dir=run", cwd=tmp_path / f"node{rank}") for rank in (0, 1)]
    for node in nodes:
        output, errors = node.communicate(timeout=60)
        assert node.returncode == code, errors
        if code or node is nodes[0]:
            assert says in output + errors


def listened_at(processes):
    """The local address of every TCP or UDP socket of these processes that anybody could connect to."""
    sockets = set()
    for number in processes:
        for entry in Path(f"/proc/{number}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(entry))
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in sockets and (fields[3] == "0A" or kind.startswith("udp")):
                found.append(fields[1])
    return found


def test_a_run_on_one_machine_listens_nowhere(tmp_path):
    process = start(*TWO, "hydra.run.dir=run", cwd=tmp_path)
    try:
        wait_until(lambda: has_logged(tmp_path / "run"), process=process)
        assert listened_at([process.pid, *(number for _, number in below(process.pid))]) == []
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_run_that_was_stopped_as_a_whole_goes_on_however_long_that_was(undisturbed, tmp_path):
    short = ["launch.timeout_s=12", "tracking=none"]
    process = start(*TWO, *short, "hydra.run.dir=run", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), process=process)
    everything = [process.pid, *(number for _, number in below(process.pid))]
    for number in everything:
        os.kill(number, signal.SIGSTOP)
    time.sleep(14)
    for number in everything:
        os.kill(number, signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_equal(tmp_path / "run", undisturbed / "run")


def test_when_the_command_is_killed_no_process_stays(tmp_path):
    process = start(*TWO, "hydra.run.dir=run", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), process=process)
    processes = [number for _, number in below(process.pid)]
    process.kill()
    process.communicate()
    assert gone(processes)
    assert status_of(tmp_path) == "FAILED"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_node_ends_the_run_on_the_other_one(tmp_path, lost):
    nodes = two_nodes(tmp_path)
    wait_until(lambda: has_logged(tmp_path / "node0" / "run"), process=nodes[0])
    processes = [nodes[lost].pid, *(number for _, number in below(nodes[lost].pid))]
    for number in processes:
        os.kill(number, signal.SIGKILL)
    began = time.monotonic()
    _, errors = nodes[1 - lost].communicate(timeout=60)
    nodes[lost].communicate()
    assert nodes[1 - lost].returncode == 5, errors
    assert "lost the connection to the others" in errors
    assert time.monotonic() - began < LIMIT_S
    assert gone(processes)
    if lost == 0:
        # Nobody is left there to close the run.
        assert run("sync", "run", cwd=tmp_path / "node0").returncode == 0
    assert status_of(tmp_path / "node0") == "FAILED"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_over_two_nodes_may_start_again_by_itself(undisturbed, tmp_path, rank):
    nodes = two_nodes(tmp_path, "launch.max_restarts=1", env=fault("kill", rank, 13, tmp_path / "mark"))
    said = [node.communicate(timeout=120) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "start 2 of 2" in said[0][0]
    assert_equal(tmp_path / "node0" / "run", undisturbed / "run")


def test_nodes_with_other_overrides_are_refused(tmp_path):
    for rank in (0, 1):
        (tmp_path / f"node{rank}").mkdir()
    cluster = [*RUN, "launch=cluster", "launch.nnodes=2", f"launch.master=127.0.0.1:{free_port()}", "hydra.run.dir=run"]
    nodes = [
        start(*cluster, f"launch.rank={rank}", f"optimizer.lr=0.00{rank + 1}", cwd=tmp_path / f"node{rank}")
        for rank in (0, 1)
    ]
    for node in nodes:
        _, errors = node.communicate(timeout=60)
        assert node.returncode == 2, errors
        assert "not given the same overrides" in errors


def test_three_processes_are_one_run(undisturbed, tmp_path):
    done = run(*RUN, "launch.nproc_per_node=3", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = (curves(place / "run") for place in (tmp_path, undisturbed))
    assert list(ours["train/loss"]) == list(theirs["train/loss"])
    assert ours["train/lr"] == theirs["train/lr"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_images"] == 16


def test_gpus_that_are_not_there_are_refused(tmp_path):
    done = run(*RUN, "launch.devices=0,1", "train.device=cpu", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "launch.nproc_per_node=2" in done.stderr


def test_a_node_that_never_comes_is_not_waited_for_without_end(tmp_path):
    done = run(
        *RUN, "launch=cluster", "launch.nnodes=2", f"launch.master=127.0.0.1:{free_port()}", "launch.rank=0",
        "launch.timeout_s=6", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "stalled" in done.stderr


@pytest.mark.parametrize(
    ("master", "says"),
    [("no.such.host.invalid:29500", "does not know no.such.host.invalid"), ("192.0.2.1:29500", "cannot listen there")],
)
def test_a_machine_that_cannot_be_the_first_one_says_so(tmp_path, master, says):
    cluster = ["launch=cluster", "launch.nnodes=2", f"launch.master={master}", "launch.rank=0"]
    done = run(*RUN, *cluster, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "launch.master" in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        master = f"127.0.0.1:{taken.getsockname()[1]}"
        cluster = ["launch=cluster", "launch.nnodes=2", f"launch.master={master}", "launch.rank=0"]
        done = run(*RUN, *cluster, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"launch.master={master}: the first process cannot listen there" in done.stderr


def test_a_sweep_over_machines_is_refused(tmp_path):
    cluster = ["launch=cluster", "launch.nnodes=2", "launch.master=node0:29500", "launch.rank=1"]
    done = run(*RUN, *cluster, "-m", "train.seed=0,1", cwd=tmp_path)
    assert done.returncode == 2
    assert "a sweep runs on one machine" in done.stdout + done.stderr


def test_a_key_of_another_choice_is_found_there(tmp_path):
    done = run("launch.nnodes=2", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean launch.nnodes=2 with launch=cluster?" in done.stderr


def test_a_run_goes_on_with_another_number_of_processes(undisturbed, tmp_path):
    synced = ["train.sync_batchnorm=true", "optimizer=sgd", "optimizer.lr=0.01", "tracking=none"]
    assert run(*TWO, *synced, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    killed = run(*TWO, *synced, "hydra.run.dir=run", cwd=tmp_path, env=fault("kill", 0, 13, tmp_path / "mark"))
    assert killed.returncode == 5
    done = run(*RUN, *synced, "hydra.run.dir=run", "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (ours, *_), (theirs, *_) = state(tmp_path / "run"), state(tmp_path / "whole")
    for name, value in theirs["model.safetensors"].items():
        np.testing.assert_allclose(ours["model.safetensors"][name], value, rtol=1e-2, atol=1e-3, err_msg=name)
