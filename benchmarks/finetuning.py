"""What a frozen backbone saves: training of the head alone beside training of all, here and in PyTorch.

    pip install -e '.[cpu,bench]'        PyTorch, for the peer only; PP-LCNet needs PaddleClas (docs/install.md)
    python -m benchmarks.finetuning [--rounds N] [--steps N] [--only CASE …]

In every round each takes its turn in a process of its own: the runner as a user starts it, as a whole and with
`model.freeze=backbone`, and a bare loop of PyTorch (eager, channels last) that trains all. Networks, 224×224 images,
batch, optimizer (AdamW) and float32 are the same. Speeds are medians over steps after the first ones; the table gives
the median over rounds with the smallest and largest, and medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from dataclasses import replace

from runner.config import networks

from . import harness, training

CASES = [
    training.Case("EfficientNet-Lite0", model="efficientnet_lite0", side=224, batch=16),
    training.Case("MobileNetV3-large", model="mobilenet_v3_large_x1_0", side=224, batch=16),
    training.Case("PP-LCNet", model="paddleclas/PPLCNet_x1_0", side=224, batch=16),
    training.Case("ResNet-50", model="resnet50", side=224, batch=8),
]
WHOLE, FROZEN, PEER = "whole", "frozen backbone", "PyTorch, whole"
#: What is promised of every case: times as fast with a frozen backbone as without, and as a whole as PyTorch.
FROZEN_TIMES, PYTORCH_TIMES = 2.5, 1.5
#: What the peer needs.
NEEDS_TORCH = "PyTorch is not installed, which is the peer. Install it: pip install -e '.[cpu,bench]'"


def by_runner(case: training.Case, *overrides: str) -> float:
    """images/s of the command."""
    with tempfile.TemporaryDirectory() as folder:
        harness.run([*training.command(case, folder, case.steps + case.warm_up), *overrides])
        read = training.logged(folder)[case.warm_up // training.LOG_EVERY :]
        return statistics.median(speed for _, speed in read)


def startable(cases: list[training.Case]) -> list[training.Case]:
    """The cases whose network is installed; says what the others need. Exits if PyTorch is not."""
    if importlib.util.find_spec("torch") is None:
        sys.exit(NEEDS_TORCH)
    missing = list(networks.without_paddleclas())
    left_out = [case for case in cases if missing and case.model.startswith(networks.PADDLECLAS)]
    for case in left_out:
        print(f"{case.name} is left out: {missing[0]}", file=sys.stderr)
    return [case for case in cases if case not in left_out]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured, a multiple of 5")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="parts of the names of cases")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or any(part in case.name for part in options.only)]
    rows, missed = [], []
    for case in startable(chosen):
        case = replace(case, steps=options.steps, warm_up=training.LOG_EVERY)
        speeds: dict[str, list[float]] = {WHOLE: [], FROZEN: [], PEER: []}
        for _ in range(options.rounds):
            speeds[PEER].append(training.by_peer(case, "torch"))
            speeds[WHOLE].append(by_runner(case))
            speeds[FROZEN].append(by_runner(case, "model.freeze=backbone"))
        saved = harness.ratio(speeds[FROZEN], speeds[WHOLE])
        whole, frozen = (harness.ratio(speeds[own], speeds[PEER]) for own in (WHOLE, FROZEN))
        spreads = [harness.spread(values, digits=1) for values in speeds.values()]
        rows.append(
            [f"{case.name}, batch {case.batch}", *spreads, *(f"{ratio:.2f}" for ratio in (saved, whole, frozen))]
        )
        missed += [f"{case.name}, frozen ÷ whole"] if saved < FROZEN_TIMES else []
        missed += [f"{case.name}, whole ÷ PyTorch"] if whole < PYTORCH_TIMES else []
    harness.print_table(["images/s", *speeds, "frozen ÷ whole", "whole ÷ PyTorch", "frozen ÷ PyTorch"], rows)
    if missed:
        sys.exit(
            f"Out of bounds: {'; '.join(missed)}. Promised are {FROZEN_TIMES} times the speed with a frozen backbone, "
            f"and {PYTORCH_TIMES} times that of PyTorch as a whole."
        )


if __name__ == "__main__":
    main()
