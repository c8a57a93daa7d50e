"""Images: where they come from, how they are divided, in which batches and after which changes a network sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import config as cfg
from ..images import Preparation, decode, resize_all
from .classes import listed
from .loaders import Batch, EvalLoader, TrainLoader
from .matching import Differing, Known
from .samplers import epoch_order
from .sources import load, preparation
from .splits import FilesOnDisk, ImageFiles, Images, Pictures, Source, Split, stratified_split
from .transforms import Normalize

__all__ = [
    "Batch",
    "Differing",
    "EvalLoader",
    "FilesOnDisk",
    "ImageFiles",
    "Images",
    "Known",
    "Loaders",
    "Normalize",
    "Pictures",
    "Preparation",
    "Source",
    "Split",
    "TrainLoader",
    "build",
    "decode",
    "epoch_order",
    "listed",
    "load",
    "preparation",
    "resize_all",
    "stratified_split",
]


@dataclass
class Loaders:
    """The batches of a run."""

    source: Source
    train: TrainLoader
    val: EvalLoader | None

    @property
    def measured_on(self) -> str:
        """The split that the trained network is measured on: `test`, where there is none `val`, else `train`."""
        return next(name for name in ("test", "val", "train") if name in self.source.splits)

    @property
    def test(self) -> EvalLoader:
        """All of that split, in every process: one of them tests, when training is over."""
        return EvalLoader(self.source.splits[self.measured_on], self.train.config)

    def evaluation(self, split: str) -> EvalLoader | None:
        """All images of `train`, `val` or `test`, each once and unchanged; None where there is no such split."""
        chosen = self.source.splits.get(split)
        return None if chosen is None else EvalLoader(chosen, self.train.config)

    @property
    def unseen(self) -> list[str]:
        """The classes that no image is of."""
        seen = set(np.concatenate([split.labels for split in self.source.splits.values()]).tolist())
        return [name for label, name in enumerate(self.classes) if label not in seen]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.source.classes


def build(
    config: cfg.Data,
    seed: int,
    overfit_batches: int | None = None,
    rank: int = 0,
    world: int = 1,
    known: Known | None = None,
) -> Loaders:
    """Load the images and divide those of training and validation among `world` processes.

    Labels follow the classes that weights know, where those are given.
    With `overfit_batches` the first batches of the first epoch are all there is, for training and
    evaluation alike, without augmentation.
    """
    source = load(config, known)
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
    )
