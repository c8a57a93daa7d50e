"""Images: where they come from, how they are divided, in which batches and after which changes a network sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import config as cfg
from ..images import decode, preprocess, resize_all
from .loaders import Batch, EvalLoader, TrainLoader
from .samplers import epoch_order
from .sources import load
from .splits import ImageFiles, Images, Source, Split, stratified_split
from .transforms import Normalize

__all__ = [
    "Batch",
    "EvalLoader",
    "ImageFiles",
    "Images",
    "Loaders",
    "Normalize",
    "Source",
    "Split",
    "TrainLoader",
    "build",
    "decode",
    "epoch_order",
    "load",
    "preprocess",
    "resize_all",
    "stratified_split",
]


@dataclass
class Loaders:
    """The batches of a run."""

    source: Source
    train: TrainLoader
    val: EvalLoader | None
    test: EvalLoader
    """All of it in every process: one of them tests, when training is over."""

    def evaluation(self, split: str) -> EvalLoader | None:
        """All images of `train`, `val` or `test`, each once and unchanged; None where nothing was held out."""
        match split:
            case "train":
                return EvalLoader(self.source.train, self.train.config)
            case "val":
                return None if self.source.val is None else EvalLoader(self.source.val, self.train.config)
        return self.test

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.source.classes


def build(config: cfg.Data, seed: int, overfit_batches: int | None = None, rank: int = 0, world: int = 1) -> Loaders:
    """Load the images and divide those of training and validation among `world` processes.

    With `overfit_batches` the first batches of the first epoch are all there is, for training and
    evaluation alike, without augmentation.
    """
    source = load(config)
    if overfit_batches:
        config = replace(config, augment=cfg.Augment())
        few = epoch_order(seed, 0, len(source.train))[: overfit_batches * config.batch_size]
        same = source.train.select(np.sort(few))
        source = Source(source.name, source.classes, same, same, same)
    val = EvalLoader(source.val, config, rank, world) if source.val is not None else None
    return Loaders(
        source,
        TrainLoader(source.train, config, seed, rank, world),
        val,
        EvalLoader(source.test, config),
    )
