"""Synthetic images: a smooth random pattern for each class, plus noise."""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from ..images.resampling import resize_all
from .splits import Images, Source


def load(config: cfg.Synthetic) -> Source:
    """As many images as the config says, classes in turn; a function of `split_seed`."""
    generator = np.random.default_rng(config.split_seed)
    coarse = generator.integers(0, 256, (config.classes, 4, 4, config.channels), dtype=np.uint8)
    patterns = resize_all(coarse, config.size)

    def split(count: int) -> Images:
        labels = np.arange(count, dtype=np.int64) % config.classes
        images = np.empty((count, *patterns.shape[1:]), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            noise = generator.standard_normal(image.shape, dtype=np.float32)
            image[:] = np.clip(patterns[label] + 32 * noise, 0, 255)
        return Images(images, labels)

    names = [f"pattern {number}" for number in range(config.classes)]
    return Source("synthetic", names, split(config.train_images), split(config.test_images))
