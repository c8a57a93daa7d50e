"""What compression costs in accuracy and saves in size and work, on the digits: `python -m benchmarks.compression`.

Of every seed, which has train, validation and test split of its own, a dense network is trained with the default
settings; each recipe `experiment=compress/…` then begins with it. Prints the means over the seeds and fails outside the
bounds below. One test image of 360 is 0.28 points. `--also lsq,ptq_mse,…` adds methods of quantization that have no
bound; `--quick` takes those alone, of one seed and after a short training, and says little but that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from runner.deploy import quantization

from . import harness, pruning

ROOT = Path(__file__).parents[1]


@dataclass
class Bound:
    """What a recipe has to keep, as means over the seeds."""

    points: float
    """Largest loss of test top-1, in percentage points."""
    macs: float = 1.0
    """Largest part of the dense network's MACs."""
    size: float = 1.0
    """Largest part of the float32 export's bytes that the integer export has."""


COLUMNS = (
    "method", "test top-1", "points lost", "int8 lost", "agreement", "MACs", "int8 bytes", "bits", "ms, batch 1",
    "seconds",
)  # fmt: skip
BOUNDS = {
    "qat": Bound(0.5, size=0.30),
    "fpgm": Bound(1.0, macs=0.70),
    "fpgm_qat": Bound(1.5, macs=0.70, size=0.30),
    "ptq": Bound(1.0, size=0.30),
}


CALIBRATED, TRAINED = ["experiment=compress/ptq"], ["experiment=compress/qat"]
MSE = ["compression.quantize.algorithm=mse", "compression.quantize.weight_range=mse"]
ADAROUND = [*MSE, "compression.quantize.adaround.enabled=true"]
FOUR = ["compression.quantize.weight_bits=4"]
#: Further methods, with what makes them.
ALSO = {
    "ptq_abs_max": [*CALIBRATED, "compression.quantize.algorithm=abs_max"],
    "ptq_kl": [*CALIBRATED, "compression.quantize.algorithm=kl"],
    "ptq_mse": [*CALIBRATED, *MSE],
    "ptq_bias": [*CALIBRATED, *MSE, "compression.quantize.bias_correction=true"],
    "adaround": [*CALIBRATED, *ADAROUND],
    "lsq": [*TRAINED, "compression=lsq"],
    "ptq_w4": [*CALIBRATED, *FOUR],
    "ptq_mse_w4": [*CALIBRATED, *MSE, *FOUR],
    "ptq_bias_w4": [*CALIBRATED, *MSE, *FOUR, "compression.quantize.bias_correction=true"],
    "adaround_w4": [*CALIBRATED, *ADAROUND, *FOUR],
    "qat_w4": [*TRAINED, *FOUR],
    "lsq_w4": [*TRAINED, "compression=lsq", *FOUR],
    "lsq_average_w4": [*TRAINED, "compression=lsq", "compression.quantize.average_weight_bits=4"],
}
#: Shortens the dense training, and that of recipes which train.
QUICK = {"dense": ["train.epochs=8"], "trained": ["train.epochs=3", "schedule.warmup_epochs=0"]}


def main() -> int:
    """Train, compress and print the table. The exit code says whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many; by default 5, or 3 with --criteria")
    parser.add_argument("--also", metavar="LIST", default="", help=f"further methods: {','.join(ALSO)}")
    parser.add_argument("--quick", action="store_true", help="one seed, short trainings of --also or --criteria")
    parser.add_argument("--criteria", action="store_true", help="ways to prune at equal MACs, instead of the recipes")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at the same time, one thread each")
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs; those that are in it are not run again")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every run, such as model=resnet18")
    options = parser.parse_intermixed_args()
    also = [name for name in options.also.split(",") if name]
    if unknown := sorted(set(also) - set(ALSO)):
        parser.error(f"--also {','.join(unknown)}: unknown. Valid: {','.join(ALSO)}")
    recipes = {} if options.quick else {name: [f"experiment=compress/{name}"] for name in BOUNDS}
    recipes |= {name: ALSO[name] for name in also}
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(options.keep or temporary).resolve()
        if options.criteria:
            several = range(1 if options.quick else options.seeds or 3)
            return pruning.table(
                list(pool.map(lambda seed: pruning.measure(
                    folder / f"seed-{seed}", seed, options.overrides, run, options.quick), several))
            )  # fmt: skip
        measured = list(
            pool.map(
                lambda seed: measure(folder / f"seed-{seed}", seed, recipes, options.overrides, options.quick),
                range(1 if options.quick else options.seeds or 5),
            )
        )
    return table(measured)


def measure(
    folder: Path, seed: int, recipes: dict[str, list[str]], overrides: list[str], quick: bool
) -> dict[str, dict[str, Any]]:
    """Result and manifest of the dense run and of every recipe, for one seed."""
    shared = [f"train.seed={seed}", f"data.split_seed={seed}", "train.threads=1", "tracking=none", *overrides]
    begin = [f"checkpoint.init_from={folder / 'dense'}"]
    results = {"dense": run(folder / "dense", [*shared, *(QUICK["dense"] if quick else [])])}
    for name, own in recipes.items():
        shorter = QUICK["trained"] if quick and CALIBRATED[0] not in own else []
        results[name] = run(folder / name, [*own, *begin, *shared, *shorter])
    return results


def run(directory: Path, overrides: list[str]) -> dict[str, Any]:
    """Train in a directory, unless that was done before."""
    if not (directory / "result.json").exists():
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "runner", *overrides, f"hydra.run.dir={directory}"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    manifest = directory / "export" / "model.json"
    described = quantization.read(directory / "export")
    return result | {
        "files": json.loads(manifest.read_text())["files"] if manifest.exists() else [],
        "weight_bits": described.weight_bits if described else None,
    }


def table(seeds: list[dict[str, dict[str, Any]]]) -> int:
    """Print the means and what is out of bounds."""
    print(f"{len(seeds)} seeds, mean (smallest to largest); points of test top-1 lost against the dense network\n")
    broken, rows = [], []
    for name in seeds[0]:
        runs = [seed[name] for seed in seeds]
        lost = [100 * (seed["dense"]["final"]["top1"] - seed[name]["final"]["top1"]) for seed in seeds]
        macs = np.mean([seed[name]["final"]["macs"] / seed["dense"]["final"]["macs"] for seed in seeds])
        sizes = [size for size in map(smaller, runs) if size is not None]
        agreements = [100 * value for value in map(agreement, runs) if value is not None]
        files = [
            100 * (seed["dense"]["final"]["top1"] - seed[name]["final"]["int8_top1"])
            for seed in seeds
            if "int8_top1" in seed[name]["final"]
        ]
        bits = [one["weight_bits"] for one in runs if one["weight_bits"]]
        rows.append([
            name,
            f"{np.mean([one['final']['top1'] for one in runs]):.4f}",
            spread(lost, 2),
            f"{np.mean(files):.2f}" if files else "",
            spread(agreements, 2) + " %" if agreements else "",
            f"{macs:.2f}",
            f"{np.mean(sizes):.3f}" if sizes else "",
            f"{np.mean(bits):.1f}" if bits else "",
            f"{np.mean([one['final'].get('latency_ms_p50', np.nan) for one in runs]):.2f}",
            f"{np.mean([one['seconds'] for one in runs]):.0f}",
        ])  # fmt: skip
        if bound := BOUNDS.get(name):
            broken += [
                f"{name}: {text}"
                for out, text in (
                    (np.mean(lost) > bound.points, f"{np.mean(lost):.2f} points lost (at most {bound.points})"),
                    (macs > bound.macs, f"{macs:.2f} of the MACs (at most {bound.macs})"),
                    (len(agreements) < len(runs), f"{len(agreements)} of {len(runs)} exports were measured"),
                    (bound.size < 1 and len(sizes) < len(runs), f"{len(sizes)} of {len(runs)} have integer files"),
                    (sizes and np.mean(sizes) > bound.size, f"{np.mean(sizes or [1]):.3f} of the bytes"),
                    (agreements and np.mean(agreements) < 99, f"agreement {np.mean(agreements or [0]):.2f} %"),
                )
                if out
            ]
    harness.print_table(COLUMNS, rows)
    print("\n" + ("\n".join(broken) or "All bounds hold."))
    return 1 if broken else 0


def smaller(run: dict[str, Any]) -> float | None:
    """Bytes of the integer export as a part of those of the float one."""
    size = {file["precision"]: file["bytes"] for file in run["files"] if file["format"] == "onnx"}
    return size["int8"] / size["float32"] if "int8" in size else None


def agreement(run: dict[str, Any]) -> float | None:
    """Part of the test images on which the integer export (else the float one) has the trained network's class."""
    found = {file["precision"]: file["agreement"] for file in run["files"] if file["format"] == "onnx"}
    return found.get("int8", found.get("float32"))


def spread(values: list[float], digits: int) -> str:
    """Mean, smallest and largest."""
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
