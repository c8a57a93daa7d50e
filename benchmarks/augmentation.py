"""Augmentation: images/s beside torchvision's transforms (v2) and Pillow's, and training with it beside without.

    pip install -e '.[cpu,bench]'
    python -m benchmarks.augmentation [--rounds N] [--images N] [--only TABLE…]

What is compared takes turns, in processes of its own. Images are in memory, smooth with some noise. Photos of 224
pixels get random resized crops, mirrors, TrivialAugment and random erasing; images of 32 pixels crops out of a border,
mirrors and RandAugment. The peers have PyTorch's loader with a process for each core; `tensors` are torchvision's own
transforms, `pillow` the same of Pillow's images, as timm composes them. Resampling is bilinear for all. The last table
is the runner's command with MobileNetV3 at 224 pixels, with the augmentation of the first and with none.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable

import numpy as np

from runner import config as cfg
from runner import device

from . import harness, training

#: Pixels → how many images, in batches of which size, by default.
IMAGES = {"224": (1024, 32), "32": (20_000, 128)}
AUGMENTS = {
    "224": cfg.Augment(crop_scale=[0.08, 1.0], flip=True, policy=cfg.Policy.trivial, erasing=0.25),
    "32": cfg.Augment(crop_padding=4, flip=True, policy=cfg.Policy.rand, rand_n=2, rand_m=9),
}
OVERRIDES = ["augment=trivial", "augment.flip=true", "augment.crop_scale=[0.08,1]", "augment.erasing=0.25"]
#: What is promised: times the images/s of the better peer; part of the speed of training without augmentation.
MIN_RATIO, MIN_TRAINING = {"224": 3.0, "32": 10.0}, 0.95


def pictures(kind: str, count: int) -> np.ndarray:
    """uint8 [count, side, side, 3]."""
    generator, side = np.random.default_rng(0), int(kind)
    y, x = np.mgrid[0:side, 0:side] / side
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    for image in images:
        waves, shift = generator.uniform(1, 9, (2, 3)), generator.uniform(0, 6, 3)
        values = 128 + 90 * np.sin(waves[0] * x[..., None] + waves[1] * y[..., None] + shift)
        image[:] = np.clip(values + generator.normal(0, 6, values.shape), 0, 255)
    return images


def images_per_s(batches: Iterable[object], count: int) -> float:
    """images/s of an epoch of so many."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return count / (time.perf_counter() - began)


def ours(kind: str, images: np.ndarray) -> float:
    """images/s of this package's loader in its second epoch."""
    os.environ.update(device.environment(None))
    device.choose(cfg.Train())
    from runner.data import Images
    from runner.data.loaders import TrainLoader

    settings = cfg.Synthetic(image_size=int(kind), batch_size=IMAGES[kind][1])
    labels = np.zeros(len(images), dtype=np.int64)
    loader = TrainLoader(Images(images, labels), settings, seed=0, augment=AUGMENTS[kind])
    return [images_per_s(loader.epoch(epoch), len(images)) for epoch in range(2)][1]


def peer(kind: str, images: np.ndarray, way: str) -> float:
    """images/s of PyTorch's loader in its second epoch, whose processes are there by then."""
    from .peers import torchvision_transforms

    loader = torchvision_transforms.batches(images, kind, way, IMAGES[kind][1], os.cpu_count() or 1)
    return [images_per_s(loader, len(images)) for _ in range(2)][1]


def measured(kind: str, way: str, count: int) -> float:
    """images/s in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.augmentation", "--measure", kind, way, str(count)]
    return harness.run(command).result["images_per_s"]


def loader_table(kind: str, rounds: int, count: int | None) -> list[str]:
    """Beside both peers; what is out of bounds."""
    speeds: dict[str, list[float]] = {"runner": [], "tensors": [], "pillow": []}
    for _ in range(rounds):
        for way, values in speeds.items():
            values.append(measured(kind, way, count or IMAGES[kind][0]))
    ours, *peers = speeds.values()
    better = max(peers, key=statistics.median)
    row = [
        f"{kind}×{kind}",
        *map(harness.spread, speeds.values()),
        *(f"{harness.ratio(ours, one):.1f}" for one in peers),
    ]
    harness.print_table(["images/s", *speeds, "÷ tensors", "÷ pillow"], [row])
    least = MIN_RATIO[kind]
    return [] if harness.ratio(ours, better) >= least else [f"{kind}: at least {least} × the better peer's"]


def training_table(rounds: int, count: int | None) -> list[str]:
    """Training with and without; what is out of bounds."""
    [case] = [case for case in training.CASES if case.name.startswith("MobileNetV3, 224×224")]
    steps = (count or IMAGES["224"][0]) // case.batch
    speeds: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(rounds):
        for name, values in speeds.items():
            with tempfile.TemporaryDirectory() as folder:
                command = training.command(case, folder, steps + case.warm_up)
                harness.run([*command, *(OVERRIDES if name == "with" else ["augment=none"])])
                logged = training.logged(folder)[case.warm_up // training.LOG_EVERY :]
                values.append(statistics.median(speed for _, speed in logged))
    share = harness.ratio(*speeds.values())
    row = [case.name, *map(harness.spread, speeds.values()), f"{share:.2f}"]
    harness.print_table(["images/s of training", "augmented", "not augmented", "augmented ÷ not"], [row])
    return [] if share >= MIN_TRAINING else [f"training: at least {MIN_TRAINING} × the speed without"]


TABLES = {
    "224": lambda rounds, count: loader_table("224", rounds, count),
    "32": lambda rounds, count: loader_table("32", rounds, count),
    "training": training_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="of each table, in place of the default")
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "WAY", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, way, count = options.measure
        images = pictures(kind, int(count))
        speed = ours(kind, images) if way == "runner" else peer(kind, images, way)
        print(json.dumps({"images_per_s": speed}))
        return
    broken = [line for name in options.only for line in TABLES[name](options.rounds, options.images)]
    if broken:
        sys.exit("Out of bounds: " + "; ".join(broken))


if __name__ == "__main__":
    main()
