"""How long a user waits: for help, for the first step, and for one more job of a sweep.

    python -m benchmarks.startup [--rounds N]

In every round each takes its turn. The yardstick is `python -c 'import paddle; import mlflow'`. The first step is the
time from the command to the end of the first training step, with MLflow tracking on; the overhead of a sweep's job is
its time without its training: two steps of the smallest network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import harness

#: What is promised: seconds of `--help`, and times the imports.
MAX_HELP, MAX_FIRST_STEP, MAX_JOB = 0.5, 1.25, 1.25
JOBS = 4


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    return time.perf_counter() - began


def first_step(folder: str, number: int) -> float:
    """Seconds from the command to the end of its first step."""
    directory = Path(folder) / f"first-{number}"
    began = time.time()
    command = [sys.executable, "-m", "runner", f"hydra.run.dir={directory}", "train.log_every=1", "train.max_steps=2"]
    seconds([*command, "schedule.warmup_epochs=0", "deploy.formats=[]"], folder)
    events = (json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines())
    return next(event["time"] for event in events if "train/loss" in event.get("values", {})) - began


def job(folder: str, number: int) -> float:
    """Seconds of one more job of a sweep: the difference of two sweeps, by the jobs that one has more."""
    tiny = [sys.executable, "-m", "runner", "+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35"]
    tiny += ["deploy.formats=[]", f"name=sweep-{number}", "-m"]
    one = seconds([*tiny, "train.seed=0"], folder)
    return (seconds([*tiny, f"train.seed={','.join(map(str, range(1, JOBS + 2)))}"], folder) - one) / JOBS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measured: dict[str, list[float]] = {"import paddle; import mlflow": [], "--help": [], "first step": [], "job": []}
    imports, help_, first, more = measured.values()
    with tempfile.TemporaryDirectory() as folder:
        # The embedded store is made and the kernels are measured once per user.
        first_step(folder, 0)
        for number in range(1, options.rounds + 1):
            imports.append(seconds([sys.executable, "-c", "import paddle; import mlflow"], folder))
            help_.append(seconds([sys.executable, "-m", "runner", "--help"], folder))
            first.append(first_step(folder, number))
            more.append(job(folder, number))
    rows = [
        [name, harness.spread(values, 2), f"{harness.ratio(values, imports):.2f}"] for name, values in measured.items()
    ]
    harness.print_table(["", "seconds", "÷ imports"], rows)
    late = harness.ratio(first, imports) > MAX_FIRST_STEP or harness.ratio(more, imports) > MAX_JOB
    if late or statistics.median(help_) > MAX_HELP:
        sys.exit(f"Out of bounds: {MAX_HELP} s, {MAX_FIRST_STEP} and {MAX_JOB} times the imports.")


if __name__ == "__main__":
    main()
