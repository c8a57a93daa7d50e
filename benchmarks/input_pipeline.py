"""The input pipeline alone: augmented images/s beside a loader that takes one image at a time.

    python -m benchmarks.input_pipeline [--rounds N]

Both shuffle 50,000 images of 32×32 pixels, crop them out of a border of four pixels, mirror half of them and normalise
them, in batches of 128. The peer is what Paddle's documentation shows: `paddle.io.DataLoader` over a dataset with
`paddle.vision.transforms`, once in the process and once with as many workers as there are cores. They take turns.

Then how long it takes to draw the order of an epoch of a million images, with `data.sampler`, and what the random
changes of its copies go by: processor seconds, for few and for many classes, of sizes like 1, ½, ⅓, …
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import Any

import numpy as np

from runner import config as cfg
from runner import device

from . import harness

SIDE, BATCH, IMAGES, BORDER = 32, 128, 50_000, 4
#: What is promised: images/s, and times as many as the better of the peers.
MIN_SPEED, MIN_RATIO = 50_000, 10.0
#: Images, numbers of classes and epoch of which orders are drawn, and the seconds that are promised.
ORDERED, CLASSES, EPOCH, MAX_ORDER = 1_000_000, (10, 1000, 20_000), 3, 0.5


def ours(images: np.ndarray, labels: np.ndarray, epoch: int) -> float:
    """images/s of an epoch of this package's loader."""
    from runner.data import Images
    from runner.data.loaders import TrainLoader

    augment = cfg.Augment(crop_padding=BORDER, flip=True)
    settings = cfg.Synthetic(image_size=SIDE, batch_size=BATCH)
    loader = TrainLoader(Images(images, labels), settings, seed=0, augment=augment)
    began, seen = time.perf_counter(), 0
    for batch in loader.epoch(epoch):
        seen += len(batch.indices)
    return seen / (time.perf_counter() - began)


def peer(images: np.ndarray, labels: np.ndarray, workers: int, count: int) -> float:
    """images/s of `paddle.io.DataLoader` over `count` images."""
    import paddle
    from paddle.vision import transforms

    class Pictures(paddle.io.Dataset):
        def __init__(self) -> None:
            self.change = transforms.Compose([
                transforms.RandomCrop(SIDE, padding=BORDER), transforms.RandomHorizontalFlip(),
                transforms.Transpose(), transforms.Normalize(mean=[127.5] * 3, std=[127.5] * 3),
            ])  # fmt: skip

        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return self.change(images[index]), labels[index]

    loader = paddle.io.DataLoader(Pictures(), batch_size=BATCH, shuffle=True, num_workers=workers)
    began, seen = time.perf_counter(), 0
    for batch, _ in loader:
        seen += batch.shape[0]
    return seen / (time.perf_counter() - began)


def order_seconds(sampler: cfg.Sampler, classes: int) -> float:
    """Processor seconds of an epoch's order."""
    from runner.data import samplers

    parts = 1 / np.arange(1, classes + 1)
    labels = np.random.default_rng(0).choice(classes, ORDERED, p=parts / parts.sum())
    began = time.process_time()
    samplers.copies(samplers.order(sampler, 0, EPOCH, labels), ORDERED)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.update(device.environment(None))
    device.choose(cfg.Train())
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, IMAGES)
    ours(images, labels, 0)
    runner, alone, workers = [], [], []
    for number in range(options.rounds):
        runner.append(ours(images, labels, number + 1))
        alone.append(peer(images, labels, 0, IMAGES))
        workers.append(peer(images, labels, os.cpu_count() or 1, IMAGES))
    rows = [
        ["runner", harness.spread(runner), ""],
        ["paddle.io.DataLoader", harness.spread(alone), f"{harness.ratio(runner, alone):.1f}"],
        [f"the same with {os.cpu_count()} workers", harness.spread(workers), f"{harness.ratio(runner, workers):.1f}"],
    ]
    harness.print_table(["loader", "images/s", "runner ÷ it"], rows)
    orders = {
        (sampler.name, classes): [order_seconds(sampler, classes) for _ in range(options.rounds)]
        for sampler in (cfg.Sampler.balanced, cfg.Sampler.sqrt) for classes in CLASSES
    }  # fmt: skip
    rows = [[name, f"{classes:,}", harness.spread(times, 2)] for (name, classes), times in orders.items()]
    harness.print_table(["data.sampler", "classes", "seconds of an epoch's order"], rows)
    if max(map(harness.statistics.median, orders.values())) > MAX_ORDER:
        sys.exit(f"Out of bounds: at most {MAX_ORDER} seconds for the order of {ORDERED:,} images.")
    best = max(alone, workers, key=lambda speeds: harness.statistics.median(speeds))
    if harness.statistics.median(runner) < MIN_SPEED or harness.ratio(runner, best) < MIN_RATIO:
        sys.exit(f"Out of bounds: at least {MIN_SPEED} images/s and {MIN_RATIO} times the peer's.")


if __name__ == "__main__":
    main()
