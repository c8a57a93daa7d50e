"""What a job of a sweep costs besides its own work, in seconds of CPU time of all its processes.

    python -m benchmarks.sweep_overhead [--jobs N]

The work of a job is what its worker takes alone, unsupervised and without importing: it builds, trains two steps,
tests, draws and writes. In a sweep it is composed, started, supervised, tracked in MLflow and waited for besides; what
the sweep does once is not counted. Workers are forked, and, for comparison, started.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from . import harness

TINY = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "deploy.formats=[]"]
COMMAND = [sys.executable, "-m", "runner", *TINY]
ALONE = "import os, sys; from runner.worker import __main__ as worker; sys.argv[2] = str(os.getppid()); worker.main()"
#: Seconds that a job of a sweep may cost besides its work where workers are forked.
MOST = 0.5


def worker(folder: Path, number: int) -> float:
    """Seconds of a worker that nobody supervises, in a directory that a command prepared."""
    directory = folder / f"alone-{number}"
    (directory / "ranks").mkdir(parents=True)
    (directory / "config.yaml").write_text((folder / "pattern" / "config.yaml").read_text())
    return harness.run([sys.executable, "-c", ALONE, str(directory), "0", "0"], folder=folder).cpu_s


def sweep(folder: Path, jobs: int, number: int, fork: bool) -> float:
    """Seconds of a sweep of so many jobs, and all its processes."""
    seeds = ",".join(str(1000 * number + seed) for seed in range(jobs))
    words = [f"train.seed={seeds}", f"name=sweep-{jobs}-{number}-{fork}", f"sweep.fork_workers={fork}"]
    done = harness.run([*COMMAND, "-m", *words], folder=folder)
    assert done.output.count("FINISHED") == jobs, done.output
    return done.cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=8, help="that the longer sweep has more than the shorter one")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    imports: list[float] = []
    alone: list[float] = []
    costs: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # The first run makes the embedded store.
        harness.run([*COMMAND, "hydra.run.dir=pattern"], folder=folder)
        for number in range(options.rounds):
            imports.append(harness.run([sys.executable, "-c", "import runner.worker.__main__"], folder=folder).cpu_s)
            alone.append(worker(folder, number))
            for fork, seconds in costs.items():
                few, many = (sweep(folder, jobs, number, fork) for jobs in (2, 2 + options.jobs))
                seconds.append((many - few) / options.jobs)
    work = statistics.median(alone) - statistics.median(imports)
    rows = [["imports", harness.spread(imports, 2)], ["worker alone", harness.spread(alone, 2)]]
    rows += [["its work", f"{work:.2f}"]]
    rows += [
        [f"job of a sweep, {'forked' if fork else 'started'}", harness.spread(seconds, 2)]
        for fork, seconds in costs.items()
    ]
    beyond = {fork: statistics.median(seconds) - work for fork, seconds in costs.items()}
    rows += [[f"beyond its work, {'forked' if fork else 'started'}", f"{cost:.2f}"] for fork, cost in beyond.items()]
    harness.print_table(["", "CPU seconds"], rows)
    if beyond[True] > MOST:
        sys.exit(f"Out of bounds: at most {MOST} s.")


if __name__ == "__main__":
    main()
