"""What compression costs in accuracy and saves in size and work: `python -m benchmarks.compression`.

    python -m benchmarks.compression [--set SET] [--methods LIST] [--seeds N] [--jobs N] [--keep DIR] [--quick]
        [key=value …]

Of every seed, which has a validation split of its own (on digits a test split as well), a dense network is trained;
each method then begins with it, by a recipe `experiment=compress/…`. Prints the means over the seeds and fails outside
the bounds below. Methods of one kind, which leave as many bits or MACs, are compared with each other: the last column
says how far one is behind the best, and whether that is noise (paired over seeds, 95 % for all pairs at once). LIST has
names of methods or of kinds. One test image is 0.28 points of digits, 0.01 of Fashion-MNIST, 0.19 of the solar cells.
`--quick` takes one seed and short trainings, and says little but that all of it works.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from examples import real_sets
from runner.deploy import quantization

from . import harness

INT8, FOUR_BITS, HALF_MACS = "int8", "4-bit", "half-macs"
GRADUAL = "taylor_gradual"


@dataclass(frozen=True)
class Bound:
    """What a method has to keep, as means over the seeds."""

    points: float
    """Largest loss of test top-1, in percentage points: of the integer file if there is one."""
    macs: float = 1.0
    """Largest part of the dense network's MACs."""
    size: float = 1.0
    """Largest part of the float32 export's bytes that the integer export has."""
    latency: float = 1.0
    """Largest part of the dense network's latency, where pruning measured it."""


@dataclass(frozen=True)
class Method:
    changes: list[str]
    """Its recipe and what it changes of it."""
    kind: str | None
    """Of what it leaves as much as others do; None: it is not compared."""
    bound: Bound | None = None


#: Training with learnt ranges, by the recipe of `qat`.
LSQ = ["experiment=compress/qat", "compression=lsq"]


def _integers(recipe: str, *changes: str, bits: int = 8) -> Method:
    words = [f"compression.quantize.{change}" for change in changes]
    words += [f"compression.quantize.weight_bits={bits}"] if bits != 8 else []
    return Method([f"experiment=compress/{recipe}", *words], INT8 if bits == 8 else FOUR_BITS)


def _pruned(kind: str | None, budget: str, *changes: str, bound: Bound | None = None) -> Method:
    words = [f"budget={budget}", "ratio=0.5", *changes]
    return Method(["experiment=compress/fpgm", *(f"compression.prune.{word}" for word in words)], kind, bound)


MSE = ["algorithm=mse", "weight_range=mse"]
BIAS, ADAROUND = "bias_correction=true", "adaround.enabled=true"
METHODS = {
    "qat": Method(["experiment=compress/qat"], INT8, Bound(0.3, size=0.30)),
    "ptq": Method(["experiment=compress/ptq"], INT8, Bound(1.0, size=0.30)),
    "fpgm": Method(["experiment=compress/fpgm"], None, Bound(1.0, macs=0.70)),
    "fpgm_qat": Method(["experiment=compress/fpgm_qat"], None, Bound(1.5, macs=0.70, size=0.30)),
    "lsq": Method(LSQ, INT8),
    "ptq_abs_max": _integers("ptq", "algorithm=abs_max"),
    "ptq_kl": _integers("ptq", "algorithm=kl"),
    "ptq_mse": _integers("ptq", *MSE),
    "ptq_bias": _integers("ptq", *MSE, BIAS),
    "adaround": _integers("ptq", *MSE, ADAROUND),
    "qat_w4": _integers("qat", bits=4),
    "lsq_w4": Method([*LSQ, "compression.quantize.weight_bits=4"], FOUR_BITS, Bound(1.0)),
    "lsq_average_w4": Method([*LSQ, "compression.quantize.average_weight_bits=4"], FOUR_BITS),
    "ptq_w4": _integers("ptq", bits=4),
    "ptq_mse_w4": _integers("ptq", *MSE, bits=4),
    "ptq_bias_w4": _integers("ptq", *MSE, BIAS, bits=4),
    "adaround_w4": _integers("ptq", *MSE, ADAROUND, bits=4),
    "prune_fpgm": _pruned(HALF_MACS, "macs"),
    "prune_l1_norm": _pruned(HALF_MACS, "macs", "criterion=l1_norm"),
    "prune_l2_norm": _pruned(HALF_MACS, "macs", "criterion=l2_norm"),
    "prune_bn_scale": _pruned(HALF_MACS, "macs", "criterion=bn_scale"),
    "prune_taylor": _pruned(HALF_MACS, "macs", "criterion=taylor"),
    "slimming": _pruned(
        HALF_MACS, "macs", "criterion=bn_scale", "sparsity=1e-4", "begin_epoch=2", "allocation=ranking"
    ),
    "fpgm_ranking": _pruned(HALF_MACS, "macs", "allocation=ranking"),
    "bn_scale_ranking": _pruned(HALF_MACS, "macs", "criterion=bn_scale", "allocation=ranking"),
    "taylor_ranking": _pruned(HALF_MACS, "macs", "criterion=taylor", "allocation=ranking"),
    "fpgm_sensitivity": _pruned(HALF_MACS, "macs", "allocation=sensitivity"),
    GRADUAL: _pruned(HALF_MACS, "macs", "criterion=taylor", "begin_epoch=1"),
    "half_latency": _pruned(None, "latency", bound=Bound(1.0, latency=0.5)),
}  # fmt: skip
#: What is measured if nothing is asked for.
STANDARD = ["qat", "fpgm", "fpgm_qat", "ptq"]
KINDS = [INT8, FOUR_BITS, HALF_MACS]


@dataclass(frozen=True)
class Task:
    """A set of images with its dense network."""

    shared: list[str] = field(default_factory=list)
    """Overrides of all runs."""
    dense: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    """Of the recipes that train."""
    pruned: list[str] = field(default_factory=list)
    """Of those that lose filters: what is left of the network learns as long as the dense one did."""
    cuts: tuple[int, int] = (2, 1)
    """How often a network is pruned gradually, and every how many epochs."""


TASKS = {
    "digits": Task(cuts=(4, 2)),
    "fashion_mnist": Task(["data=fashion_mnist"], ["train.epochs=6"], ["train.epochs=3"], ["train.epochs=6"]),
    # As `experiment=finetune/defects` has it, which the recipes of compression take the place of.
    "defects": Task(
        [
            "model=efficientnet_lite0", "data=files", "data.train=defects.csv", "data.path_column=path",
            "data.label_column=label", "data.image_size=128", "data.channels=1", "data.mean=[0.57]", "data.std=[0.17]",
            "data.batch_size=32", "data.cache=memory", "augment.crop_padding=0", "augment.flip=true",
            "augment.flip_vertical=true",
        ],
        ["optimizer.lr=0.001", "train.epochs=16", "train.ema=0.99"],
        ["train.epochs=6"],
        ["train.epochs=16", "train.ema=0.99"],
    ),
}  # fmt: skip


def task(name: str) -> Task:
    """A set with its place, and the weights that its dense network begins with; fetches what is not there."""
    own = TASKS[name]
    if name == "fashion_mnist":
        return replace(own, shared=[*own.shared, f"data.root='{real_sets.fashion_mnist()}'"])
    if name == "defects":
        shared = [*own.shared, f"data.root='{real_sets.solar_defects()}'"]
        return replace(own, shared=shared, dense=[*own.dense, f"model.weights='{real_sets.efficientnet_lite0()}'"])
    return own


#: For runs of seconds.
QUICK = Task(
    ["data.limit=80", "data.batch_size=16", "model=mobilenet_v3_small_x0_35", "deploy.bench_s=0.01"],
    ["train.epochs=4", "schedule.warmup_epochs=0"], ["train.epochs=4", "schedule.warmup_epochs=0"],
    ["compression.prune.channel_multiple=1", "compression.prune.batches=2"],
)  # fmt: skip
COLUMNS = (
    "method", "test top-1", "points lost", "int8 lost", "agreement", "MACs", "parameters", "int8 bytes", "bits",
    "latency", "seconds", "behind the best of its kind",
)  # fmt: skip


def main() -> int:
    """Train, compress and print the table. The exit code says whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=TASKS, default="digits")
    parser.add_argument("--methods", metavar="LIST", default=",".join(STANDARD), help=f"of {','.join(METHODS)}; "
                        f"or kinds of them: {','.join(KINDS)}")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, short trainings")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at the same time, one thread each")
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs; those that are in it are not run again")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every run, such as model=resnet18")
    options = parser.parse_intermixed_args()
    names = [name for name in options.methods.split(",") if name]
    if unknown := sorted(set(names) - {*METHODS, *KINDS}):
        parser.error(f"--methods {','.join(unknown)}: unknown. Valid: {','.join([*METHODS, *KINDS])}")
    chosen = [name for name, method in METHODS.items() if {name, method.kind} & set(names)]
    of_set = QUICK if options.quick else task(options.set)
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(options.keep or temporary).resolve() / ("quick" if options.quick else options.set)
        measured = list(
            pool.map(
                lambda seed: measure(folder / f"seed-{seed}", seed, chosen, of_set, options.overrides),
                range(1 if options.quick else options.seeds),
            )
        )
    return table(measured)


def measure(
    folder: Path, seed: int, chosen: list[str], of_set: Task, overrides: list[str]
) -> dict[str, dict[str, Any]]:
    """What the dense run and each method left, for one seed."""
    shared = [
        *of_set.shared, f"train.seed={seed}", f"data.split_seed={seed}", "train.threads=1", "tracking=none",
        "train.plots=false", *overrides,
    ]  # fmt: skip
    results = {"dense": run(folder / "dense", [*shared, *of_set.dense])}
    for name in chosen:
        begin = f"checkpoint.init_from='{folder / 'dense'}'"
        results[name] = run(folder / name, [*compressed(name, of_set), begin, *shared])
        lost = points(results, name)
        print(f"seed {seed}, {name}: {lost:+.2f} points lost", file=sys.stderr, flush=True)
    return results


def compressed(name: str, of_set: Task) -> list[str]:
    """The overrides of a method on a set, without those of all runs."""
    changes = METHODS[name].changes
    trained = of_set.trained if "experiment=compress/ptq" not in changes else []
    pruned = of_set.pruned if any("prune" in word or "fpgm" in word for word in changes) else []
    cuts = zip(("parts", "every_epochs"), of_set.cuts, strict=True) if name == GRADUAL else ()
    return [*changes, *trained, *pruned, *(f"compression.prune.{key}={value}" for key, value in cuts)]


def run(directory: Path, overrides: list[str]) -> dict[str, Any]:
    """Train in a directory, unless that was done before: its result with what its files say."""
    harness.train(directory, overrides)
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    manifest, plan = directory / "export" / "model.json", directory / "compression.json"
    described = quantization.read(directory / "export")
    pruned = json.loads(plan.read_text()).get("student", {}) if plan.exists() else {}
    return result | {
        "files": json.loads(manifest.read_text())["files"] if manifest.exists() else [],
        "weight_bits": described.weight_bits if described else None,
        "ms": (pruned.get("pruned") or {}).get("ms"),
    }


def table(seeds: list[dict[str, dict[str, Any]]]) -> int:
    """Print the means and what is out of bounds."""
    print(f"{len(seeds)} seeds, mean (smallest to largest); points of test top-1 lost against the dense network\n")
    places = behind(seeds)
    broken, rows = [], []
    for name in seeds[0]:
        runs = [seed[name] for seed in seeds]
        lost = [points(seed, name) for seed in seeds]
        files = [points(seed, name, right) for seed in seeds if (right := of_file(seed[name], "top1", "int8"))]
        macs, parameters = (
            np.mean([seed[name]["final"][what] / seed["dense"]["final"][what] for seed in seeds])
            for what in ("macs", "params")
        )
        sizes = [size for size in map(smaller, runs) if size is not None]
        compared = [of_file(one, "agreement", "int8", "float32") for one in runs]
        agreements = [100 * value for value in compared if value is not None]
        bits = [one["weight_bits"] for one in runs if one["weight_bits"]]
        latencies = [one["ms"][1] / one["ms"][0] for one in runs if one["ms"]]
        rows.append([
            name,
            f"{np.mean([one['final']['top1'] for one in runs]):.4f}",
            spread(lost),
            harness.rounded(float(np.mean(files)), 2) if files else "",
            spread(agreements) + " %" if agreements else "",
            f"{macs:.2f}",
            f"{parameters:.2f}",
            f"{np.mean(sizes):.3f}" if sizes else "",
            f"{np.mean(bits):.1f}" if bits else "",
            f"{np.mean(latencies):.2f}" if latencies else "",
            f"{np.mean([one['seconds'] for one in runs]):.0f}",
            places.get(name, ""),
        ])  # fmt: skip
        if name in METHODS and (bound := METHODS[name].bound):
            measured = files or lost
            broken += [
                f"{name}: {text}"
                for out, text in (
                    (np.mean(measured) > bound.points, f"{np.mean(measured):.2f} points lost (at most {bound.points})"),
                    (macs > bound.macs, f"{macs:.2f} of the MACs (at most {bound.macs})"),
                    (len(agreements) < len(runs), f"{len(agreements)} of {len(runs)} exports were measured"),
                    (bound.size < 1 and len(sizes) < len(runs), f"{len(sizes)} of {len(runs)} have integer files"),
                    (sizes and np.mean(sizes) > bound.size, f"{np.mean(sizes or [1]):.3f} of the bytes"),
                    (agreements and np.mean(agreements) < 99, f"agreement {np.mean(agreements or [0]):.2f} %"),
                    (bound.latency < 1 and len(latencies) < len(runs), f"{len(latencies)} of {len(runs)} were timed"),
                    (np.mean(latencies or [0]) > bound.latency, f"{np.mean(latencies or [0]):.2f} of the latency"),
                )
                if out
            ]
    harness.print_table(COLUMNS, rows)
    print("\n" + ("\n".join(broken) or "All bounds hold."))
    return 1 if broken else 0


def points(seed: dict[str, dict[str, Any]], name: str, right: float | None = None) -> float:
    """Points of test top-1 that a method lost in one seed; `right`: top-1 of its file."""
    return float(100 * (seed["dense"]["final"]["top1"] - (right or seed[name]["final"]["top1"])))


def behind(seeds: list[dict[str, dict[str, Any]]]) -> dict[str, str]:
    """How far each method is behind the best one of its kind, by what its integer file reaches if it has one."""
    places: dict[str, str] = {}
    for kind in KINDS:
        scores = {
            name: {number: of_file(seed[name], "top1", "int8") or seed[name]["final"]["top1"]
                   for number, seed in enumerate(seeds)}
            for name in seeds[0]
            if name in METHODS and METHODS[name].kind == kind
        }  # fmt: skip
        places |= harness.behind(scores) if len(scores) > 1 else {}
    return places


def smaller(run: dict[str, Any]) -> float | None:
    """Bytes of the integer export as a part of those of the float one."""
    size = {file["precision"]: file["bytes"] for file in run["files"] if file["format"] == "onnx"}
    return size["int8"] / size["float32"] if "int8" in size else None


def of_file(run: dict[str, Any], what: str, *precisions: str) -> float | None:
    """`agreement` or `top1` of an export in onnxruntime, of the first of these precisions that it has."""
    values = {file["precision"]: file[what] for file in run["files"] if file["engine"] == "onnxruntime"}
    return next((values[precision] for precision in precisions if precision in values), None)


def spread(values: list[float]) -> str:
    """Mean, smallest and largest."""
    mean, least, most = (harness.rounded(value, 2) for value in (float(np.mean(values)), min(values), max(values)))
    return f"{mean} ({least} to {most})"


if __name__ == "__main__":
    sys.exit(main())
