"""The default recipe here and in PyTorch: the same images, network, loss, optimizer, schedule and averages.

    python -m benchmarks.same_recipe [--seeds N]

Needs the extra `bench`. A difference of the means that is larger than twice its standard error is out of bounds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

from . import harness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="further overrides")
    options = parser.parse_args()
    top1: dict[str, list[float]] = {"runner": [], "PyTorch": []}
    seconds: dict[str, list[float]] = {"runner": [], "PyTorch": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            directory = Path(folder) / str(seed)
            ours = [f"hydra.run.dir={directory}", "tracking=none", "deploy.formats=[]", f"train.seed={seed}"]
            harness.run([sys.executable, "-m", "runner", "experiment=digits/best", *ours, *options.overrides])
            result = json.loads((directory / "result.json").read_text())
            measured = {"top1": result["final"]["top1"], "seconds": result["seconds"]}
            peer = [sys.executable, "-m", "benchmarks.peers.torch_recipe", str(seed), *options.overrides]
            for name, one in (("runner", measured), ("PyTorch", harness.run(peer).result)):
                top1[name].append(one["top1"])
                seconds[name].append(one["seconds"])
                print(f"seed {seed}, {name}: {one['top1']:.4f} after {one['seconds']:.0f} s", flush=True)
    rows = [
        [name, f"{statistics.mean(top1[name]):.4f}", " ".join(f"{value:.4f}" for value in top1[name]),
         harness.spread(seconds[name])]
        for name in top1
    ]  # fmt: skip
    harness.print_table(["", "mean test top-1", "by seed", "seconds"], rows)
    difference = statistics.mean(top1["runner"]) - statistics.mean(top1["PyTorch"])
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in top1.values()))
    print(f"difference {difference:+.4f}, standard error {error:.4f}")
    if abs(difference) > 2 * error:
        sys.exit("Out of bounds: the means differ by more than twice the standard error.")


if __name__ == "__main__":
    main()
