"""What a small student reaches on Fashion-MNIST by what it follows of its teacher, after the same steps.

    python -m benchmarks.distillation [--seeds N] [--epochs N] [--teacher-epochs N] [overrides]

A larger network is trained once and teaches all students. Each row is a student from random weights with the same
seeds, data and steps; means are of test top-1. Without a teacher a step is cheaper: the last column has the seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from . import harness

STUDENT, TEACHER = "mobilenet_v3_small_x0_35", "mobilenet_v3_large_x1_0"
FEATURES = ["features=attention_transfer", "features.layers=[conv2,conv4]", "features.peer_layers=[conv3,conv6]"]
ROWS = {
    "labels alone": [],
    "KD": ["mimic=kd", "mimic.alpha=0.9"],
    "KD of standardised logits": ["mimic=kd", "mimic.alpha=0.9", "mimic.temperature=2", "mimic.standardize=true"],
    "DKD": ["mimic=dkd"],
    "DIST": ["mimic=dist"],
    "KD, attention transfer": ["mimic=kd", "mimic.alpha=0.9", *FEATURES],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--teacher-epochs", type=int, default=10)
    options, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(folder) / "teacher"
        top1, seconds = trained(teacher, f"model={TEACHER}", f"train.epochs={options.teacher_epochs}", *overrides)
        print(f"teacher: test top-1 {top1:.4f} after {seconds:.0f} s", flush=True)
        table = []
        for number, (row, words) in enumerate(ROWS.items()):
            mode = ["mode=cls_teacher", f"mode.teacher_from={teacher}"] if words else []
            results = [
                trained(
                    Path(folder) / f"{number}-{seed}", f"model={STUDENT}", f"train.epochs={options.epochs}",
                    f"train.seed={seed}", *mode, *words, *overrides,
                )
                for seed in range(options.seeds)
            ]  # fmt: skip
            scores, times = zip(*results, strict=True)
            deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
            table.append([row, f"{statistics.mean(scores):.4f}", f"{deviation:.4f}", f"{statistics.mean(times):.0f}"])
            print(": ".join(table[-1][:2]), flush=True)
    harness.print_table(["student follows", "test top-1", "deviation over seeds", "seconds"], table)


def trained(directory: Path, *overrides: str) -> tuple[float, float]:
    """Test top-1 and the seconds of training of a run."""
    where = [f"hydra.run.dir={directory}", "tracking=none", "deploy.formats=[]", "train.plots=false"]
    harness.run([sys.executable, "-m", "runner", "data=fashion_mnist", *where, *overrides])
    result = json.loads((directory / "result.json").read_text())
    return result["final"]["top1"], result["seconds"]


if __name__ == "__main__":
    main()
