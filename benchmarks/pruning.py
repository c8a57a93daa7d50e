"""Ways to prune at equal MACs, on the digits: `python -m benchmarks.compression --criteria`.

Of every seed, which has train, validation and test split of its own, a dense network is trained with the default
settings; each way then begins with it, removes half of the MACs and trains on, with the dense network as teacher. It
prints test top-1 as means over the seeds; one test image of 360 is 0.28 points.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Part of the MACs that is removed.
REMOVED = 0.5
#: What is tried → what it needs beside `experiment=compress/fpgm` and the budget.
WAYS = {
    "fpgm": [],
    "l1_norm": ["criterion=l1_norm"],
    "l2_norm": ["criterion=l2_norm"],
    "bn_scale": ["criterion=bn_scale"],
    "taylor": ["criterion=taylor"],
    "fpgm, ranking": ["allocation=ranking"],
    "bn_scale, ranking": ["criterion=bn_scale", "allocation=ranking"],
    "taylor, ranking": ["criterion=taylor", "allocation=ranking"],
    "fpgm, sensitivity": ["allocation=sensitivity"],
    "taylor, in 4 cuts": ["criterion=taylor", "begin_epoch=1", "parts=4", "every_epochs=2"],
}
#: Overrides that make a run of seconds, to see whether it all fits, and what is tried then.
QUICK = ["data.limit=80", "train.epochs=4", "data.batch_size=16", "model=mobilenet_v3_small_x0_35", "deploy.bench_s=0"]
QUICK_WAYS = ("bn_scale", "taylor, ranking", "taylor, in 4 cuts")

Run = Callable[[Path, list[str]], dict[str, Any]]


def measure(folder: Path, seed: int, overrides: list[str], run: Run, quick: bool) -> dict[str, dict[str, Any]]:
    """Result of the dense run and of every way, for one seed."""
    shared = [f"train.seed={seed}", f"data.split_seed={seed}", "train.threads=1", "tracking=none", "train.plots=false"]
    shared += [*(QUICK if quick else []), *overrides]
    dense = run(folder / "dense", shared)
    begun = ["experiment=compress/fpgm", f"checkpoint.init_from={folder / 'dense'}", *shared]
    budget = ["compression.prune.budget=macs", f"compression.prune.ratio={REMOVED}"]
    if quick:
        budget += ["compression.prune.channel_multiple=1", "compression.prune.batches=2", "schedule.warmup_epochs=0"]
    results = {"dense": dense}
    for name in QUICK_WAYS if quick else WAYS:
        words = [f"compression.prune.{word}" for word in WAYS[name]]
        if quick:
            words = [word.replace("parts=4", "parts=2").replace("every_epochs=2", "every_epochs=1") for word in words]
        place = folder / name.replace(", ", "-").replace(" ", "-")
        results[name] = run(place, [*begun, *budget, *words])
    return results


def table(seeds: list[dict[str, dict[str, Any]]]) -> int:
    """Print the means, the best way first."""
    print(f"{len(seeds)} seeds, mean (smallest to largest); points of test top-1 lost against the dense network\n")
    print(f"{'':22}{'test top-1':>12}{'points lost':>26}{'MACs':>8}{'parameters':>12}{'seconds':>9}")
    lost = {
        name: [100 * (seed["dense"]["final"]["top1"] - seed[name]["final"]["top1"]) for seed in seeds]
        for name in seeds[0]
    }
    for name in sorted(lost, key=lambda name: (name != "dense", np.mean(lost[name]))):
        runs = [seed[name] for seed in seeds]
        macs, params = (
            np.mean([one["final"][what] / seed["dense"]["final"][what] for one, seed in zip(runs, seeds, strict=True)])
            for what in ("macs", "params")
        )
        spread = f"{np.mean(lost[name]):.2f} ({min(lost[name]):.2f} to {max(lost[name]):.2f})"
        print(
            f"{name:22}{np.mean([one['final']['top1'] for one in runs]):12.4f}{spread:>26}{macs:8.2f}{params:12.2f}"
            f"{np.mean([one['seconds'] for one in runs]):9.0f}"
        )
    return 0
