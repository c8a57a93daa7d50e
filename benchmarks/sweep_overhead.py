"""What a job of a sweep costs besides its own work: the time of a job against that of its worker alone.

    python -m benchmarks.sweep_overhead [--jobs N]

The worker alone imports Paddle and the rest, builds, trains two steps, tests, draws and writes: what no job can do
without. A job of a sweep is composed, supervised, tracked in MLflow and waited for besides.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "deploy.formats=[]"]
#: Seconds a job may take longer than its worker.
MOST = 1.0


def timed(command: list[str], folder: str) -> tuple[float, str]:
    """(seconds, standard output) of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    return time.perf_counter() - began, done.stdout


def worker(folder: str, number: int) -> float:
    """Seconds of a worker that nobody supervises, in a directory that a command prepared."""
    directory = Path(folder) / f"alone-{number}"
    directory.mkdir()
    (directory / "ranks").mkdir()
    (directory / "config.yaml").write_text((Path(folder) / "pattern" / "config.yaml").read_text())
    code = (
        "import os, sys; from runner.worker import __main__ as worker; sys.argv[2] = str(os.getppid()); worker.main()"
    )
    return timed([sys.executable, "-c", code, str(directory), "0"], folder)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=6)
    options = parser.parse_args()
    command = [sys.executable, "-m", "runner", *TINY]
    with tempfile.TemporaryDirectory() as folder:
        # The first run makes the embedded store.
        timed([*command, "hydra.run.dir=pattern"], folder)
        alone = [worker(folder, number) for number in range(options.jobs)]
        seeds = ",".join(map(str, range(options.jobs)))
        seconds, output = timed([*command, "-m", f"train.seed={seeds}"], folder)
        assert len(re.findall("FINISHED", output)) == options.jobs
        alone += [worker(folder, options.jobs + number) for number in range(options.jobs)]
    job, work = seconds / options.jobs, statistics.median(alone)
    print(f"worker alone {work:.2f} s (from {min(alone):.2f} to {max(alone):.2f}), {len(alone)} times")
    print(f"job of a sweep {job:.2f} s, mean of {options.jobs}; the command's own start is part of it")
    print(f"overhead of a job {job - work:.2f} s")
    if job - work > MOST:
        sys.exit(f"Out of bounds: at most {MOST} s.")


if __name__ == "__main__":
    main()
