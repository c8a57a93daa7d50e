"""Images made from a seed: a smooth random pattern for each class, and noise."""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from .images import resize_all
from .splits import Images, Source


def load(config: cfg.Synthetic) -> Source:
    """As many images as the config says, their labels in turn; the same for the same `split_seed`."""
    generator = np.random.default_rng(config.split_seed)
    coarse = generator.integers(0, 256, (config.classes, 4, 4, config.channels), dtype=np.uint8)
    patterns = resize_all(coarse, config.image_size)

    def split(count: int) -> Images:
        labels = np.arange(count, dtype=np.int64) % config.classes
        noise = generator.normal(0, 32, (count, config.image_size, config.image_size, config.channels))
        return Images(np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels)

    names = [f"pattern {number}" for number in range(config.classes)]
    return Source("synthetic", names, split(config.train_images), split(config.test_images))
