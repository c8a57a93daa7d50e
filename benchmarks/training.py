"""Training speed beside what a user could pick instead: stock Paddle, PyTorch and PyTorch Lightning.

    pip install -e '.[cpu,bench]'        PyTorch and Lightning, for the peers only
    python -m benchmarks.training [--rounds N] [--only CASE …]

In every round each takes its turn in a process of its own: the runner as a user starts it (data set, augmentation,
metrics, journal, MLflow, progress), and bare loops over one batch that is in memory. `kernels` is the bare loop in
Paddle with this package's layers and optimizer (`loop_overhead.py` compares it more closely). Networks, batch,
optimizer (AdamW) and float32 are the same. Speeds are medians over steps after the first ones; the table gives
the median over rounds with the smallest and largest, and medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from runner import device

from . import harness

PEERS = ("paddle", "kernels", "torch", "lightning")
LOG_EVERY = 5


@dataclass
class Case:
    """A training that all can do."""

    name: str
    model: str = "mobilenet_v3_large_x0_5"
    side: int = 32
    batch: int = 128
    networks: int = 1
    qat: bool = False
    steps: int = 200
    """Steps that are measured; a twentieth of them, but 3 to 6, of stock Paddle."""
    warm_up: int = 10


CASES = [
    Case("MobileNetV3, 32×32, batch 128"),
    Case("MobileNetV3, 32×32, batch 32", batch=32),
    Case("MobileNetV3, 32×32, batch 512", batch=512, steps=60),
    Case("MobileNetV3, 64×64, batch 128", side=64, steps=60),
    Case("MobileNetV3, 224×224, batch 16", side=224, batch=16, steps=40),
    Case("pair of MobileNetV3, 32×32, batch 128", networks=2, steps=100),
    Case("MobileNetV3 with QAT, 32×32, batch 128", qat=True, steps=100),
    Case("ResNet-18, 32×32, batch 128", model="resnet18", steps=60),
    Case("ResNet-18, 224×224, batch 16", model="resnet18", side=224, batch=16, steps=10, warm_up=5),
]
#: What is promised of each case: times as fast as stock Paddle, as PyTorch, as Lightning.
PROMISED = {"paddle": 10.0, "torch": 1.5, "lightning": 1.5}


def by_peer(case: Case, peer: str) -> float:
    """images/s of a bare loop, or of Lightning."""
    steps = {"steps": min(6, max(3, case.steps // 20)), "warm_up": 2} if peer == "paddle" else {}
    environment = device.environment(None) if peer == "kernels" else {}
    given = json.dumps(asdict(case) | steps)
    command = [sys.executable, "-m", "benchmarks.peers.run", peer, given]
    return harness.run(command, environment).result["images_per_s"]


def by_runner(case: Case) -> float:
    """images/s of the command."""
    with tempfile.TemporaryDirectory() as folder:
        harness.run(command(case, folder, case.steps + case.warm_up))
        return statistics.median(speed for _, speed in logged(folder)[case.warm_up // LOG_EVERY :])


def command(case: Case, folder: str, steps: int, log_every: int = LOG_EVERY) -> list[str]:
    """A run of one epoch in a folder, journal, MLflow and all."""
    overrides = [
        f"hydra.run.dir={folder}/run", f"model={case.model}", "data=synthetic", f"data.image_size={case.side}",
        f"data.train_images={case.batch * steps}", f"data.batch_size={case.batch}", "data.val_fraction=0",
        "data.test_images=64", "schedule.warmup_epochs=0", "train.epochs=1", f"train.log_every={log_every}",
        f"tracking.uri=sqlite:///{folder}/mlflow.db", "deploy.formats=[]",
    ]  # fmt: skip
    overrides += ["mode=cls_distill"] if case.networks == 2 else []
    overrides += ["compression=qat"] if case.qat else []
    return [sys.executable, "-m", "runner", *overrides]


def logged(folder: str) -> list[tuple[float, float]]:
    """What the journal of `command` has so far: (seconds since 1970, images/s) of every line with losses."""
    journal = Path(folder) / "run" / "journal.jsonl"
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    metrics = [event for event in map(json.loads, lines) if "train/loss" in event.get("values", {})]
    return [(event["time"], event["values"]["train/images_per_s"]) for event in metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="parts of the names of cases")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or any(part in case.name for part in options.only)]
    rows, missed = [], []
    for case in chosen:
        peers = [peer for peer in PEERS if not (case.qat and peer in ("torch", "lightning"))]
        speeds: dict[str, list[float]] = {peer: [] for peer in ("runner", *peers)}
        for _ in range(options.rounds):
            for peer in peers:
                speeds[peer].append(by_peer(case, peer))
            speeds["runner"].append(by_runner(case))
        ratios = {peer: harness.ratio(speeds["runner"], speeds[peer]) for peer in peers if peer in PROMISED}
        rows.append(
            [case.name, harness.spread(speeds["runner"])]
            + [harness.spread(speeds[peer]) if peer in peers else "–" for peer in PEERS]
            + [f"{ratios[peer]:.2f}" if peer in ratios else "–" for peer in PROMISED]
        )
        print(f"{case.name}: {ratios}", file=sys.stderr, flush=True)
        missed += [f"{case.name} against {peer}" for peer, ratio in ratios.items() if ratio < PROMISED[peer]]
    headings = ["images/s", "runner", "stock Paddle", "bare loop with kernels", "PyTorch", "Lightning"]
    harness.print_table([*headings, "÷ stock", "÷ PyTorch", "÷ Lightning"], rows)
    if missed:
        sys.exit(f"Out of bounds: {'; '.join(missed)}. Promised are {PROMISED} times their speed.")


if __name__ == "__main__":
    main()
