"""What exports gain on this machine: `python -m benchmarks.deployed [--threads N]`.

Trains MobileNetV3-large ×0.5 and ResNet-18 on the digits, 64×64, for a few epochs, quantizes and prunes them, ResNet-18
once more to half of its latency, and measures all exported files in one alternating run (`runner bench`). Prints that
table and the test top-1 that each lost, and fails where an integer file is more than 0.30 of the float one's bytes,
where no integer file of ResNet-18 is twice as fast with at most 0.3 points lost, where pruned to half of its latency it
is slower than that or loses more than 1 point, or where a pruned network is no faster than the dense one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import harness

ROOT = Path(__file__).parents[1]
RESNET = "resnet18"
MODELS = {"mobilenet_v3_large_x0_5": 20, RESNET: 8}
HALF = "half_latency"
#: Kind of run → how it compresses the dense network.
RECIPES = {
    "qat": ["experiment=compress/qat", "train.epochs=12"],
    "ptq": ["experiment=compress/ptq"],
    "fpgm": ["experiment=compress/fpgm", "train.epochs=4"],
    # More than half: pruning measures in another process, and finds a tenth more or less.
    HALF: [
        "experiment=compress/fpgm", "compression.prune.budget=latency", "compression.prune.ratio=0.58",
        "train.epochs=12", "deploy.threads=1",
    ],
}  # fmt: skip
#: Kinds with integer files.
INTEGERS = ("qat", "ptq")
BATCHES = (1, 32)
#: Most bytes of an integer file as a part of the float one's; for ResNet-18 how many times as fast it is at least, and
#: most points that it loses; the same of the network that is pruned to half of its latency.
SIZE, INT8_TIMES, INT8_POINTS, HALF_TIMES, HALF_POINTS = 0.30, 2.0, 0.3, 2.0, 1.0


def main() -> int:
    """Train, measure, print. The exit code says whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of the engines")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each file and batch size")
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs; those that are in it are not trained again")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for model, epochs in MODELS.items():
            train(folder, model, epochs)
        runs = [f"{model}/{kind}" for model in MODELS for kind in kinds(model)]
        arguments = ["--batch", ",".join(map(str, BATCHES)), "--threads", str(options.threads)]
        measured = runner(folder, "bench", *runs, *arguments, "--seconds", str(options.seconds), "--json")
        rows = [json.loads(line) for line in measured.splitlines()]
        reached = {run: json.loads((folder / run / "result.json").read_text())["final"] for run in runs}
    for row in rows:
        final = reached[row["run"]]
        row["top1"] = final["int8_top1" if row["precision"] == "int8" else "top1"]
    headings = ["network", "file", "engine", "MB", "test top-1", "agreement", *(f"batch {batch}" for batch in BATCHES)]
    harness.print_table(headings, [line(rows, *file) for file in dict.fromkeys(map(file_of, rows))])
    engines = ", ".join(dict.fromkeys(row["engine"] for row in rows))
    print(f"\n{engines}, {options.threads} threads; speed: against the dense network's float ONNX file")
    broken = problems(rows)
    print("\n".join(broken) or "All bounds hold.")
    return 1 if broken else 0


def file_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """The run, the file and the engine that were measured."""
    return row["run"], row["path"], row["engine"]


def line(rows: list[dict[str, Any]], run: str, path: str, engine: str) -> list[str]:
    """One file in an engine, in all sizes of batches."""
    own = sorted((row for row in rows if file_of(row) == (run, path, engine)), key=lambda row: row["batch"])
    cells = [f"{row['latency_ms_p50']:.2f} ms, {speed(rows, row):.2f} ×" for row in own]
    sizes = [f"{own[0]['bytes'] / 1e6:.2f}", f"{own[0]['top1']:.4f}", f"{own[0]['agreement']:.4f}"]
    return [run, path, engine, *sizes, *cells]


def kinds(model: str) -> list[str]:
    """The runs of a model; MobileNetV3 cannot be made twice as fast by pruning alone."""
    return ["dense", *(kind for kind in RECIPES if kind != HALF or model == RESNET)]


def train(folder: Path, model: str, epochs: int) -> None:
    """A dense run of a model and one of each recipe that begins with it."""
    shared = [
        f"model={model}",
        "data.image_size=64",
        "tracking=none",
        "train.threads=2",
        "deploy.formats=[onnx,paddle]",
    ]
    for kind in kinds(model):
        begin = ["schedule.warmup_epochs=1", f"train.epochs={epochs}"]
        if kind != "dense":
            begin = [*RECIPES[kind], f"checkpoint.init_from='{folder / model / 'dense'}'"]
        harness.train(folder / model / kind, [*begin, *shared])


def runner(folder: Path, *arguments: str) -> str:
    """What a command prints that must succeed."""
    command = [sys.executable, "-m", "runner", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def speed(rows: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """How many times as fast a file is as the float ONNX file of the same model, not compressed, at that batch size."""
    dense = find(rows, f"{row['run'].partition('/')[0]}/dense", "float32", row["batch"])
    return float(dense["latency_ms_p50"] / row["latency_ms_p50"])


def find(rows: list[dict[str, Any]], run: str, precision: str, batch: int) -> dict[str, Any]:
    """The measurement of one ONNX file."""
    wanted = (run, "onnx", precision, batch)
    return next(row for row in rows if (row["run"], row["format"], row["precision"], row["batch"]) == wanted)


def problems(rows: list[dict[str, Any]]) -> list[str]:
    """What is out of bounds."""
    broken = []
    for model in MODELS:
        for kind in INTEGERS:
            whole, integers = (find(rows, f"{model}/{kind}", precision, 1) for precision in ("float32", "int8"))
            if (size := integers["bytes"] / whole["bytes"]) > SIZE:
                broken.append(f"{model}/{kind}: the integer file has {size:.3f} of the bytes (at most {SIZE})")
        for batch in BATCHES:
            pruned = speed(rows, find(rows, f"{model}/fpgm", "float32", batch))
            if pruned <= 1:
                broken.append(f"{model}, batch {batch}: pruned is {pruned:.2f} times as fast as dense")
    lacking = [out_of_bounds(rows, kind, "int8", BATCHES, INT8_TIMES, INT8_POINTS) for kind in INTEGERS]
    if all(lacking):
        broken += [line for lines in lacking for line in lines]
    return broken + out_of_bounds(rows, HALF, "float32", BATCHES[:1], HALF_TIMES, HALF_POINTS)


def out_of_bounds(
    rows: list[dict[str, Any]], kind: str, precision: str, batches: tuple[int, ...], times: float, points: float
) -> list[str]:
    """What a compressed ResNet-18 lacks of the speed that it must have, or loses beyond the points that it may."""
    broken = []
    for batch in batches:
        row = find(rows, f"{RESNET}/{kind}", precision, batch)
        if (faster := speed(rows, row)) < times:
            broken.append(f"{RESNET}/{kind}, {precision}, batch {batch}: {faster:.2f} times as fast (at least {times})")
    dense = find(rows, f"{RESNET}/dense", "float32", 1)["top1"]
    if (lost := 100 * (dense - row["top1"])) > points:
        broken.append(f"{RESNET}/{kind}, {precision}: {lost:.2f} points lost (at most {points})")
    return broken


if __name__ == "__main__":
    sys.exit(main())
