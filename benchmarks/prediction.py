"""Pictures per second of `predict` with an exported file, beside those of the engine and of the decoder alone.

    python -m benchmarks.prediction [--rounds N]

The engine alone computes pictures that were decoded before, in one thread and in a thread for each core; the decoder
alone reads files and prepares them, in a thread for each core. `predict` shares the cores between both: the limit is
what both take one after the other on all cores. They take turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from runner.deploy.predict import BATCH, Deployed, answers, cores

from . import harness

#: What is promised: times the speed of the engine in one thread where the decoder is faster, and times the limit.
MIN_ENGINE, MIN_LIMIT = 0.9, 0.85


@dataclass
class Case:
    """Pictures of one kind, and what classifies them."""

    name: str
    overrides: list[str]
    size: tuple[int, int]
    suffix: str
    count: int


CASES = [
    Case("32×32 PNG, MobileNetV3-large ×0.5 at 32×32", ["data.image_size=32"], (32, 32), "png", 2000),
    Case("32×32 PNG, ResNet-18 at 32×32", ["data.image_size=32", "model=resnet18"], (32, 32), "png", 2000),
    Case("500×375 JPEG, MobileNetV3-large ×0.5 at 224×224", ["data.image_size=224"], (500, 375), "jpg", 400),
]


def exported(case: Case, folder: Path) -> Deployed:
    """An untrained network as an ONNX file."""
    quiet = ["+debug=fast_dev_run", "tracking=none", "train.plots=false", "deploy.bench_s=0"]
    harness.run([sys.executable, "-m", "runner", *quiet, *case.overrides, f"hydra.run.dir={folder}"])
    return Deployed(folder / "export")


def drawn(case: Case, folder: Path) -> list[str]:
    """Files of smooth pictures with some noise."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(case.count):
        few = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(case.size)
        noise = random.integers(0, 24, (*case.size[::-1], 3))
        paths.append(str(folder / f"{number}.{case.suffix}"))
        Image.fromarray((np.asarray(few) * 0.9 + noise).astype(np.uint8)).save(paths[-1])
    return paths


def speed(count: int, work: Callable[[], object]) -> float:
    """Pictures a second."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def measured(deployed: Deployed, paths: list[str], rounds: int) -> dict[str, list[float]]:
    """What → images/s of each round."""
    prepared = [
        np.stack(list(map(deployed.prepare, paths[begin : begin + BATCH]))) for begin in range(0, len(paths), BATCH)
    ]
    seen: dict[str, list[float]] = {}
    with ThreadPoolExecutor(cores()) as pool:
        works: dict[str, Callable[[], object]] = {
            "engine, one thread": lambda: list(map(deployed.compute, prepared)),
            "engine": lambda: list(pool.map(deployed.compute, prepared)),
            "decoder": lambda: list(pool.map(deployed.prepare, paths)),
            "predict": lambda: list(answers(deployed, paths)),
        }
        for number in range(rounds + 1):
            for name, work in works.items():
                took = speed(len(paths), work)
                # The first round warms up.
                if number:
                    seen.setdefault(name, []).append(took)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows, slow = [], []
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            deployed, paths = exported(case, Path(place) / "run"), drawn(case, Path(place))
            seen = measured(deployed, paths, options.rounds)
        limit = [
            1 / (1 / engine + 1 / decoder) for engine, decoder in zip(seen["engine"], seen["decoder"], strict=True)
        ]
        of_limit = harness.ratio(seen["predict"], limit)
        of_engine = harness.ratio(seen["predict"], seen["engine, one thread"])
        rows.append([case.name, *map(harness.spread, seen.values()), f"{of_engine:.2f}", f"{of_limit:.2f}"])
        decodes_faster = np.median(seen["decoder"]) > np.median(seen["engine, one thread"])
        if of_limit < MIN_LIMIT or (decodes_faster and of_engine < MIN_ENGINE):
            slow.append(case.name)
    headings = [*islice(seen, 4), "predict ÷ engine in one thread", "predict ÷ limit"]
    harness.print_table(["pictures per second", *headings], rows)
    if slow:
        sys.exit(f"Out of bounds: {', '.join(slow)}")


if __name__ == "__main__":
    main()
