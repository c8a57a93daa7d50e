"""What a frozen backbone saves: training of the head alone beside training of all, here and in PyTorch.

    pip install -e '.[cpu,bench]'        PyTorch, for the peer only
    python -m benchmarks.finetuning [--rounds N] [--steps N] [--only CASE …]

In every round each takes its turn in a process of its own: the runner as a user starts it, as a whole and with
`model.freeze=backbone`, and a bare loop of PyTorch (eager, channels last) that trains all. Networks, 224×224 images,
batch, optimizer (AdamW) and float32 are the same. Speeds are medians over steps after the first ones; the table gives
the median over rounds with the smallest and largest, and medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace

from . import harness, training

CASES = [
    training.Case("EfficientNet-Lite0", model="efficientnet_lite0", side=224, batch=16),
    training.Case("MobileNetV3-large", model="mobilenet_v3_large_x1_0", side=224, batch=16),
    training.Case("ResNet-50", model="resnet50", side=224, batch=8),
]
WHOLE, FROZEN, PEER = "whole", "frozen backbone", "PyTorch, whole"
#: What is promised of every case: times as fast with a frozen backbone as without.
PROMISED = 2.5


def by_runner(case: training.Case, *overrides: str) -> float:
    """images/s of the command."""
    with tempfile.TemporaryDirectory() as folder:
        harness.run([*training.command(case, folder, case.steps + case.warm_up), *overrides])
        read = training.logged(folder)[case.warm_up // training.LOG_EVERY :]
        return statistics.median(speed for _, speed in read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured, a multiple of 5")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="parts of the names of cases")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or any(part in case.name for part in options.only)]
    rows, missed = [], []
    for case in chosen:
        case = replace(case, steps=options.steps, warm_up=training.LOG_EVERY)
        speeds: dict[str, list[float]] = {WHOLE: [], FROZEN: [], PEER: []}
        for _ in range(options.rounds):
            speeds[PEER].append(training.by_peer(case, "torch"))
            speeds[WHOLE].append(by_runner(case))
            speeds[FROZEN].append(by_runner(case, "model.freeze=backbone"))
        saved, beside = (harness.ratio(speeds[FROZEN], speeds[other]) for other in (WHOLE, PEER))
        spreads = [harness.spread(values, digits=1) for values in speeds.values()]
        rows.append([f"{case.name}, batch {case.batch}", *spreads, f"{saved:.2f}", f"{beside:.2f}"])
        missed += [case.name] if saved < PROMISED else []
    harness.print_table(["images/s", *speeds, "frozen ÷ whole", "frozen ÷ PyTorch"], rows)
    if missed:
        sys.exit(f"Out of bounds: {', '.join(missed)}; promised is {PROMISED} times the speed.")


if __name__ == "__main__":
    main()
