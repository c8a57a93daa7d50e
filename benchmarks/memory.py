"""What a default run needs of memory: its largest process against a bare loop over the same model, batch and data.

    python -m benchmarks.memory [--rounds N]

The default run is whole: data, training, validation, checkpoints, MLflow, test, plots, export and measurement. The bare
loop is the one a user would write in Paddle, with this package's layers. Both take turns; a figure is the largest
resident size of any of the processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict

from runner import device

from . import harness
from .training import Case

#: What is promised.
MOST = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    case = json.dumps(asdict(Case("", batch=64)))
    bare, runner = [], []
    for _ in range(options.rounds):
        loop = [sys.executable, "-m", "benchmarks.peers.run", "kernels", case]
        bare.append(harness.run(loop, device.environment(None)).memory_mb)
        with tempfile.TemporaryDirectory() as folder:
            whole = [f"hydra.run.dir={folder}/run", f"tracking.uri=sqlite:///{folder}/mlflow.db", "train.epochs=8"]
            runner.append(harness.run([sys.executable, "-m", "runner", *whole]).memory_mb)
    rows = [["bare loop", harness.spread(bare), ""]]
    rows += [["default run", harness.spread(runner), f"{harness.ratio(runner, bare):.2f}"]]
    harness.print_table(["", "MB", "÷ bare loop"], rows)
    if statistics.median(runner) > MOST * statistics.median(bare):
        sys.exit(f"Out of bounds: at most {MOST} of the bare loop's.")


if __name__ == "__main__":
    main()
