"""What tracking costs: images/s of a run against the same run with tracking=none, beside a server that comes and goes.

    python -m benchmarks.tracking_overhead [--rounds N]

Both arms train the default network alternately while a real MLflow server on loopback is killed and started again at
random, ten times a run. Training has one thread, so that the server, which elsewhere is another machine, has a core to
start on; what it still takes both arms pay. In the end every point must have reached the server once. Speeds are those
of the steps after the first ten. (`loop_overhead.py` has tracking on, without outages and with all cores in use.)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

STEPS, BATCH, OUTAGES = 300, 128, 10
#: What is promised.
MIN_RATIO = 0.97


class Server(threading.Thread):
    """A tracking server that is killed at random until it is told to stay up."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.random, self.outages, self.finished = folder, random.Random(seed), 0, threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        while not self.finished.is_set() and self.outages < OUTAGES:
            self.begin()
            self.finished.wait(self.random.uniform(0, 3))
            self.end()
            self.outages += 1
            self.finished.wait(self.random.uniform(0, 1))

    def begin(self) -> None:
        """Start the server and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            ["nice", "-n", "10", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        sys.exit("The MLflow server did not start.")

    def end(self) -> None:
        """Kill the server."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def measured(tracked: bool, seed: int) -> tuple[float, str]:
    """(images/s, what became of the points) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        directory, server = Path(folder) / "run", Server(Path(folder), seed)
        uri = f"http://127.0.0.1:{server.port}"
        tracking = [f"tracking.uri={uri}", "tracking.drain_s=1"] if tracked else ["tracking=none"]
        server.start()
        try:
            run(
                "data=synthetic", f"data.train_images={BATCH * STEPS}", f"data.batch_size={BATCH}",
                "data.val_fraction=0", "data.test_images=128", "train.threads=1", "schedule.warmup_epochs=0",
                "train.epochs=1", "train.log_every=5", f"hydra.run.dir={directory}", *tracking,
            )  # fmt: skip
            server.finished.set()
            server.join()
            if server.outages < OUTAGES:
                sys.exit(f"Only {server.outages} outages fitted into the run. Raise STEPS.")
            speeds = speeds_of(directory)
            if not tracked:
                return speeds, ""
            server.begin()
            run("sync", str(directory))
            return speeds, f"{compare(directory, uri)}, {OUTAGES} outages"
        finally:
            server.finished.set()
            server.join()
            server.end()


def run(*arguments: str) -> None:
    """One command, which must succeed."""
    done = subprocess.run([sys.executable, "-m", "runner", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"runner {' '.join(arguments)} failed:\n{done.stderr}")


def speeds_of(directory: Path) -> float:
    """images/s over all steps after the first ten."""
    events = map(json.loads, (directory / "journal.jsonl").read_text().splitlines())
    speeds = [event["values"]["train/images_per_s"] for event in events if "train/loss" in event.get("values", {})]
    return statistics.harmonic_mean(speeds[2:])


def compare(directory: Path, uri: str) -> str:
    """How the server's points differ from the journal's."""
    from mlflow.tracking import MlflowClient

    from runner.runs.history import curves
    from runner.tracking.entities import step_of

    client, run_id = MlflowClient(uri), json.loads((directory / "mlflow.json").read_text())["run_id"]
    lost = doubled = points = 0
    for name, values in curves(directory).items():
        history = [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        expected = {(step_of(name, step), value) for step, value in values.items()}
        points += len(expected)
        lost += len(expected - set(history))
        doubled += len(history) - len(set(history))
    return f"{points} points, {lost} lost, {doubled} doubled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    print("round  tracking=none images/s  tracked images/s  ratio  points")
    for number in range(1, options.rounds + 1):
        (without, _), (tracked, points) = measured(False, number), measured(True, number)
        ratios.append(tracked / without)
        print(f"{number:5}  {without:22.1f}  {tracked:16.1f}  {ratios[-1]:5.3f}  {points}", flush=True)
        if " 0 lost, 0 doubled" not in points:
            sys.exit("Points were lost or doubled.")
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")
    if statistics.median(ratios) < MIN_RATIO:
        sys.exit(f"Out of bounds: tracking may cost at most {1 - MIN_RATIO:.0%}.")


if __name__ == "__main__":
    main()
