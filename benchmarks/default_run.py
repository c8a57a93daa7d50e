"""What the run of `make run` reaches, and how long it trains: means over seeds.

    python -m benchmarks.default_run [--seeds N]

Every seed is a whole run of `python -m runner experiment=digits/best` with another `train.seed`; the data and their
division stay. The time is that of training and validation, as `result.json` has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from . import harness

#: What is promised: mean test top-1 and mean seconds of training.
MIN_TOP1, MAX_SECONDS = 0.985, 90.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="further overrides")
    options = parser.parse_args()
    top1, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            directory = Path(folder) / str(seed)
            where = [f"hydra.run.dir={directory}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
            harness.run(
                [
                    sys.executable,
                    "-m",
                    "runner",
                    "experiment=digits/best",
                    *where,
                    f"train.seed={seed}",
                    *options.overrides,
                ]
            )
            result = json.loads((directory / "result.json").read_text())
            top1.append(result["final"]["top1"])
            seconds.append(result["seconds"])
            print(f"seed {seed}: test top-1 {top1[-1]:.4f} after {seconds[-1]:.0f} s", flush=True)
    print(f"mean test top-1 {statistics.mean(top1):.4f}, {statistics.mean(seconds):.0f} s of training")
    if statistics.mean(top1) < MIN_TOP1 or statistics.mean(seconds) > MAX_SECONDS:
        sys.exit(f"Out of bounds: at least {MIN_TOP1} within {MAX_SECONDS:.0f} s.")


if __name__ == "__main__":
    main()
