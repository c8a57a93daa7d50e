"""Real processes for tests: runs in the background, what they started, a tracking server that comes and goes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from runner.runs.history import curves
from runner.runs.journal import events
from runner.tracking.entities import step_of

ROOT = Path(__file__).parents[2]
#: Lets a run in another folder import tests.samples.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def start(*arguments, cwd, env=None):
    """`python -m runner` in the background."""
    command = [sys.executable, "-m", "runner", *arguments]
    environment = ENVIRONMENT | (env or {})
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def run(*arguments, cwd, env=None, timeout=120):
    """`python -m runner`, waited for."""
    process = start(*arguments, cwd=cwd, env=env)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def wait_until(condition, seconds=60, process=None):
    """Wait for a condition, as long as a process lives that could bring it about."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        if time.monotonic() > limit:
            if process is not None:
                process.kill()
            raise AssertionError("it did not happen in time")
        time.sleep(0.05)


def has_logged(directory, step=1):
    """Whether a run has logged the metrics of a step."""
    return any(event["event"] == "metrics" and event["step"] >= step for event, _ in events(directory))


def children(parent):
    """Command line → the id of every child of a process; of those with the same one, one."""
    return dict(_children(parent))


def _children(parent):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append((command, int(status.parent.name)))
        except OSError:
            continue
    return found


def below(parent):
    """Command line and id of every process below one."""
    found = []
    for name, number in _children(parent):
        found += [(name, number), *below(number)]
    return found


def workers(process):
    """Rank → the id of a training process below a command."""
    found = {}
    for name, number in below(process.pid):
        if "runner.worker" in name:
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
                rank = [item.partition(b"=")[2] for item in environment if item.startswith(b"PADDLE_TRAINER_ID=")]
                found[int(rank[0]) if rank else 0] = number
    return found


def worker_of(process):
    """The id of the training process below a command."""
    [worker] = [number for name, number in children(process.pid).items() if "runner.worker" in name]
    return worker


def gone(processes, within=20):
    """Whether all of these processes end in time."""

    def alive(process):
        try:
            return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    limit = time.monotonic() + within
    while any(map(alive, processes)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(alive, processes))


def free_port():
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A real MLflow server on loopback that can be killed and started again; the context ends it."""

    def __init__(self, folder, options=(), environment=None):
        self.folder, self.port, self.options, self.environment = folder, free_port(), options, environment or {}
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.kill()

    def start(self, wait=True):
        """Start it; by default return when it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=_politely,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self.environment,
        )  # fmt: skip
        if wait:
            wait_until(self.answers, seconds=120)
        return self

    def answers(self):
        """Whether it takes requests."""
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
        except OSError:
            return False
        return True

    def kill(self):
        """Kill it and all its processes, as a power cut would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None


def _politely():
    os.nice(10)


def mlflow_runs(uri, experiment="default"):
    """(client, runs of an experiment but summaries of sweeps)."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    sent = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, [run for run in sent if "runner.summary" not in run.data.tags]


def assert_mlflow_has_every_point_once(uri, directory, experiment="default"):
    """The points of the journal, all of them and none twice."""
    client, runs = mlflow_runs(uri, experiment)
    [found] = [run for run in runs if run.data.tags["run_dir"] == str(directory.resolve())]
    expected = curves(directory)
    assert expected
    for name, points in expected.items():
        history = client.get_metric_history(found.info.run_id, name)
        sent = sorted((step_of(name, step), value) for step, value in points.items())
        assert sorted((point.step, point.value) for point in history) == sent, name
    return found
