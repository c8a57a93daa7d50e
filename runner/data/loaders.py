"""Data loaders: batches of a split for training and evaluation, with augmentation and Mixup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import config as cfg
from ..errors import ConfigError
from . import cache
from .augment import mix
from .batches import batches_of
from .labels import class_counts
from .matching import ExpectedClasses
from .samplers import batch_bounds, copies, epoch_order, order
from .sources import load
from .splits import ImageFiles, Images, Source, Split
from .transforms import Augmentation, Normalize, mixed

#: Size at which images that are randomly cropped are kept, relative to the network's input: a crop of half the area is
#: then not upscaled.
CROPPED_FROM = 1.5
#: No augmentation.
UNCHANGED = cfg.Augment()


@dataclass
class Batch:
    """One process's part of a batch."""

    images: Tensor
    """float32 [n, C, H, W], normalised, on the device."""
    labels: Tensor
    """int64 [n]; soft: float32 [n, K], the shares of the classes; multi-label: uint8 [n, K] of 0 and 1."""
    indices: np.ndarray
    """int64 [n]: indices of the images in the split."""
    global_size: int
    """Size of the batch over all processes."""


class TrainLoader:
    """Shuffled, augmented batches; `data.batch_size` is the sum over all processes."""

    def __init__(
        self,
        split: Split,
        config: cfg.Data,
        seed: int,
        rank: int = 0,
        world: int = 1,
        augment: cfg.Augment = UNCHANGED,
        classes: int = 0,
    ) -> None:
        self.split, self.config, self.augment, self.seed = split, config, augment, seed
        self.rank, self.world = rank, world
        self.classes = classes
        """Number of classes; needed if images are mixed."""
        self.epochs: int | None = None
        """Number of epochs of the run, if known: the probability of mixing may change towards the end."""
        self.bounds = batch_bounds(len(split), config.batch_size, world)
        self.normalize = Normalize(config)
        self.labels = split.labels if split.soft is None else split.soft
        self.crops_pictures = isinstance(split, ImageFiles) and not _keeps(config)
        """Whether random crops are cut out of whole pictures, which every epoch decodes."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches that contain as many images as the split."""
        return len(self.bounds)

    def first_images(self, steps: int) -> np.ndarray:
        """The images of the first steps of a run, at most an epoch: int64 [N], ascending, each once."""
        chosen = order(self.config.sampler, self.seed, 0, self.split.labels)
        return np.unique(chosen[: self.bounds[steps - 1][1]])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from batch `start` on, a pure function of seed and epoch."""
        chosen = order(self.config.sampler, self.seed, epoch, self.split.labels)
        changes = chosen if self.config.sampler is cfg.Sampler.shuffle else copies(chosen, len(self.split))
        augmentation = self._augmentation(epoch)
        bounds = self.bounds[start:]
        mixing = self._mixing(epoch)
        if mixing is not None:
            steps = [(chosen[begin:end], changes[begin:end]) for begin, end in bounds]
            yield from self._mixed(mixing, steps, augmentation)
            return
        mine, drawn = (
            [every[begin:end][self.rank :: self.world] for begin, end in bounds] for every in (chosen, changes)
        )
        batches = batches_of(self.split, mine, self.labels, self.config, self.normalize, augmentation, drawn)
        for (begin, end), (images, labels, indices) in zip(bounds, batches, strict=True):
            # A run that mixes has soft labels in all of its epochs, also in those that do not mix.
            own = F.one_hot(labels, self.classes) if self.augment.mixes and labels.ndim == 1 else labels
            yield Batch(images, own, indices, end - begin)

    def _augmentation(self, epoch: int) -> Augmentation:
        return Augmentation(self.config, self.augment, self.seed, epoch, len(self.split), self.crops_pictures)

    def _mixing(self, epoch: int) -> mix.Mixing | None:
        if not mix.probability(self.augment, epoch, self.epochs):
            return None
        return mix.draw(self.augment, self.seed, epoch, len(self.split), self.config.size, self.epochs)

    def _mixed(
        self, mixing: mix.Mixing, steps: list[tuple[np.ndarray, np.ndarray]], augmentation: Augmentation
    ) -> Iterator[Batch]:
        """The batches of some steps with Mixup or CutMix; `steps`: all images of each step, and the keys of their
        augmentation."""
        pairs = [mix.pairs(len(step), self.rank, self.world) for step, _ in steps]
        read = [step[pair.rows] for (step, _), pair in zip(steps, pairs, strict=True)]
        changes = [drawn[pair.rows] for (_, drawn), pair in zip(steps, pairs, strict=True)]
        batches = batches_of(self.split, read, self.labels, self.config, self.normalize, augmentation, changes)
        for (step, _), pair, own_changes, (images, _, indices) in zip(steps, pairs, changes, batches, strict=True):
            own = indices[: len(pair.partners)]
            drawn = mixing.of(own_changes[: len(own)])
            labels = mix.targets(self.labels[indices], pair.partners, drawn.shares, self.classes)
            yield Batch(mixed(images, pair.partners, drawn), paddle.to_tensor(labels), own, len(step))

    def seen(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Some images as an epoch shows them, before normalisation: uint8 [n, H, W, C]. indices: int64 [n].

        Mixup and CutMix mix them with each other.
        """
        augmentation = self._augmentation(epoch)
        [(images, _, _)] = batches_of(self.split, [indices], self.labels, self.config, self.normalize, augmentation)
        if (mixing := self._mixing(epoch)) is not None:
            images = mixed(images, mix.pairs(len(indices), 0, 1).partners, mixing.of(indices))
        scales, shifts = (numbers.reshape(-1, 1, 1) for numbers in (self.normalize.scales, self.normalize.shifts))
        return np.round((images.numpy() - shifts) / scales).astype(np.uint8).transpose(0, 2, 3, 1)


class EvalLoader:
    """Every image exactly once over all processes, without augmentation."""

    def __init__(self, split: Split, config: cfg.Data, rank: int = 0, world: int = 1) -> None:
        self.split, self.config = split, config
        self.rank, self.world = rank, world
        self.normalize = Normalize(config)

    def __iter__(self) -> Iterator[Batch]:
        size = self.config.eval_batch_size
        everything = np.arange(len(self.split))
        batches = [everything[begin : begin + size] for begin in range(0, len(everything), size)]
        mine = [batch[self.rank :: self.world] for batch in batches]
        sizes = [len(whole) for whole, own in zip(batches, mine, strict=True) if len(own)]
        mine = [own for own in mine if len(own)]
        for images, labels, indices in batches_of(self.split, mine, self.split.labels, self.config, self.normalize):
            yield Batch(images, labels, indices, sizes.pop(0))


@dataclass
class Loaders:
    """The loaders of a run."""

    source: Source
    train: TrainLoader
    val: EvalLoader | None
    notes: list[str] = field(default_factory=list)
    """Notes for the user on how images are read."""

    def unchanged(self) -> Iterator[Batch]:
        """The whole batches of the first epoch without augmentation, whatever this process's share of them."""
        return TrainLoader(self.source.train, self.train.config, self.train.seed).epoch(0)

    @property
    def measured_on(self) -> str:
        """The split that the final metrics are measured on: `test`, without one `val`, else `train`."""
        return next(name for name in ("test", "val", "train") if name in self.source.splits)

    @property
    def test(self) -> EvalLoader:
        """All of that split, in every process: a single process tests, when training is over."""
        return EvalLoader(self.source.splits[self.measured_on], self.train.config)

    def evaluation(self, split: str) -> EvalLoader | None:
        """All images of `train`, `val` or `test`, each once, without augmentation; None without such a split."""
        chosen = self.source.splits.get(split)
        return None if chosen is None else EvalLoader(chosen, self.train.config)

    @property
    def many(self) -> bool:
        """Whether images are multi-label."""
        return self.source.train.labels.ndim == 2

    @property
    def unseen(self) -> list[str]:
        """The classes that no image has."""
        seen = sum(class_counts(split.labels, len(self.classes)) > 0 for split in self.source.splits.values())
        return [name for name, is_seen in zip(self.classes, np.asarray(seen), strict=True) if not is_seen]

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
    expected: ExpectedClasses | None = None,
    source: Source | None = None,
    augment: cfg.Augment = UNCHANGED,
) -> Loaders:
    """Load the images, and divide those of training and validation among `world` processes.

    Labels follow the order of the classes that weights know, if those are given. `source`: the images, if they are
    loaded already. With `overfit_batches` the first batches of the first epoch are all there is, for training and
    evaluation alike, without augmentation.
    """
    source = source or load(config, expected)
    _check_fill(source, config, augment)
    if overfit_batches:
        augment = UNCHANGED
        few = epoch_order(seed, 0, len(source.train))[: overfit_batches * config.batch_size]
        same = source.train.select(np.sort(few))
        source = replace(source, train=same, test=same, val=same)
    val = EvalLoader(source.val, config, rank, world) if source.val is not None else None
    is_cropped = augment.enabled and augment.crop_scale is not None
    split = _larger(source.train) if is_cropped and _keeps(config) else source.train
    notes = cache.attach(config, replace(source, train=split)) if isinstance(config, cfg.Pictures) else []
    train = TrainLoader(split, config, seed, rank, world, augment, len(source.classes))
    return Loaders(source, train, val, notes)


def _check_fill(source: Source, config: cfg.Data, augment: cfg.Augment) -> None:
    """Errors: ConfigError for a colour where images are stored as grey ones."""
    images = source.train.images if isinstance(source.train, Images) else None
    stored = config.channels if images is None else images.shape[3]
    if augment.enabled and stored == 1 and len(set(augment.fill)) > 1:
        raise ConfigError(
            f"augment.fill={augment.fill}: the images of '{source.name}' are stored as grey ones, which have no "
            f"colours. Use one number: augment.fill=[{augment.fill[0]}]"
        )


def _keeps(config: cfg.Data) -> bool:
    """Whether decoded pictures are kept for later epochs, which crop what is kept."""
    return isinstance(config, cfg.Pictures) and config.cache is not cfg.Cache.none


def _larger(split: Split) -> Split:
    """The same images, kept at a size at which random crops keep more of their detail."""
    if not isinstance(split, ImageFiles) or split.preparation is None:
        return split
    height, width = (round(CROPPED_FROM * side) for side in split.preparation.size)
    return replace(split, preparation=replace(split.preparation, height=height, width=width))
