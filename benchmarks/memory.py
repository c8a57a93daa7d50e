"""What a default run needs of memory: its largest process against a bare loop over the same model, batch and data.

    python -m benchmarks.memory [--rounds N]

The default run is whole: data, training, validation, checkpoints, MLflow, test, plots, export and measurement, with the
engines of the default installation, and once more with OpenVINO. The bare loop is the one a user would write in Paddle,
with this package's layers. They take turns; a figure is the largest resident size of any of the processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from runner import device
from runner.deploy import engines
from runner.deploy.manifest import OPENVINO

from . import harness
from .training import Case

#: What is promised of the default installation.
MOST = 1.15
#: A module that Python imports first, and that hides an engine.
HIDING = f"import sys\nsys.modules[{OPENVINO!r}] = None\n"


def of_a_run(hidden: bool) -> float:
    """Megabytes of a whole run; OpenVINO may be hidden from it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(harness.ROOT), os.environ.get("PYTHONPATH", "")]
        if hidden:
            (Path(folder) / "sitecustomize.py").write_text(HIDING)
            paths.insert(0, folder)
        whole = [f"hydra.run.dir={folder}/run", f"tracking.uri=sqlite:///{folder}/mlflow.db", "train.epochs=8"]
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return harness.run([sys.executable, "-m", "runner", *whole], environment).memory_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    case = json.dumps(asdict(Case("", batch=64)))
    bare, runner, further = [], [], []
    for _ in range(options.rounds):
        loop = [sys.executable, "-m", "benchmarks.peers.run", "kernels", case]
        bare.append(harness.run(loop, device.environment(None)).memory_mb)
        runner.append(of_a_run(hidden=True))
        if engines.is_installed(OPENVINO):
            further.append(of_a_run(hidden=False))
    rows = [["bare loop", harness.spread(bare), ""]]
    rows += [["default run", harness.spread(runner), f"{harness.ratio(runner, bare):.2f}"]]
    if further:
        rows += [["the same with OpenVINO", harness.spread(further), f"{harness.ratio(further, bare):.2f}"]]
    harness.print_table(["", "MB", "÷ bare loop"], rows)
    if statistics.median(runner) > MOST * statistics.median(bare):
        sys.exit(f"Out of bounds: at most {MOST} of the bare loop's.")


if __name__ == "__main__":
    main()
