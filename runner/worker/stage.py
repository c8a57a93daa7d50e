"""What training and evaluation have in common: the images and networks of a run, before any weights are loaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import config as cfg
from .. import data, device, models, parallel, terminal
from ..data import about as about_data
from ..data import check
from ..data.about import About
from ..data.labels import class_counts, epoch_shares
from ..data.samplers import quotas_of
from ..errors import DataError
from ..kernels import native
from ..kernels.accelerate import accelerate as accelerate_network
from ..metrics import HEADLINE, MANY, Metric
from ..metrics.names import monitored_metric
from ..models import Networks
from ..runs.protocol import Heartbeat
from ..training import losses, modes, precision, seeding
from ..training.evaluation import evaluate
from . import features, initial, same_teachers, teacher


@dataclass
class Stage:
    """What training and evaluation have in common: images and networks, with weights as they were initialised."""

    device: str
    """`cpu` or `gpu`."""
    loaders: data.Loaders
    classes: losses.Classes
    """The classes and their counts, for losses that weigh them."""
    about: About
    """Statistics of the images."""
    mode: modes.Mode
    networks: Networks
    precision: precision.Precision
    notes: list[str]
    of_other_classes: set[str] = field(default_factory=set)
    """Teachers of other classes, of which only features are followed."""
    content: dict[str, np.ndarray] = field(default_factory=dict)
    """Split → digests of its images' bytes, uint64 [N], 0 where unknown; in the first process, after a check."""
    teachers: dict[str, str] = field(default_factory=dict)
    """Teacher → `same_teachers.digest` of it."""

    @property
    def headline(self) -> Metric:
        """The metric that stands for accuracy: top-1, or mAP for multi-label images."""
        return MANY[0] if self.loaders.many else HEADLINE


def prepare(
    config: cfg.Config,
    with_teacher: bool,
    ranks: parallel.Ranks = parallel.ALONE,
    expected: data.ExpectedClasses | None = None,
    listing: Path | None = None,
    divide: bool = True,
) -> Stage:
    """seed → data → networks. Errors as in `build`.

    Only training needs the frozen teacher of `cls_teacher`, and checks all images. `expected` are the classes of the
    weights that will be loaded; `divide` as in `data.load`.
    """
    place = device.choose(config.train, config.launch.devices)
    notes: list[str] = []
    seeding.seed(config.train.seed)
    source, about, content = _checked(
        data.load(config.data, expected, divide), config.data, with_teacher, ranks, listing, notes
    )
    overfit = config.debug.overfit_batches
    loaders = data.build(
        config.data, config.train.seed, overfit, ranks.rank, ranks.world_size, source=source, augment=config.augment
    )
    notes += loaders.notes
    if overfit:
        # The images are others now.
        content.clear()
    train = loaders.source.train
    counts = quotas_of(config.data.sampler, class_counts(train.labels, len(loaders.classes)))
    counts = counts if train.soft is None else epoch_shares(train.labels, train.soft, counts)
    seen = losses.Classes(loaders.classes, counts, len(train), loaders.source.own_order)
    mode = modes.build(config, seen, loaders.train.batches_per_epoch)
    teaching = ranks if with_teacher else None
    networks, of_other_classes, teachers = _networks(config, mode, loaders, notes, content, teaching)
    if with_teacher:
        features.check(config, networks)
    casting = precision.build(config.amp, place)
    if casting.fell_back:
        notes.append(f"amp={config.amp.kind} fell back to float32: this device has no mixed precision")
    stage = Stage(place, loaders, seen, about, mode, networks, casting, notes, of_other_classes, content, teachers)
    for name in networks:
        classes = None if name in of_other_classes else len(loaders.classes)
        models.check_input(networks[name], config.data.input_shape, classes)
    if accelerates(config) and (reason := native.unavailable()):
        notes.append(f"no compiled kernels, so training is several times slower than it could be: {reason}")
    accelerate(config, networks)
    return stage


def _checked(
    source: data.Source, config: cfg.Data, closely: bool, ranks: parallel.Ranks, listing: Path | None, notes: list[str]
) -> tuple[data.Source, About, dict[str, np.ndarray]]:
    """The readable images, what is known of them, and their digests as in `Stage`.

    The first process checks, the others receive the result. Errors: DataError that names all unreadable images, unless
    the config skips them.
    """
    may_skip = isinstance(config, cfg.Pictures) and config.on_error is cfg.OnError.skip
    content: dict[str, np.ndarray] = {}

    def first() -> tuple[list[check.Broken], About]:
        looked = check.Findings.nothing(source)
        if closely or may_skip:
            heartbeat = Heartbeat()
            with terminal.progress("checking images") as show:

                def tell(done: int, count: int) -> None:
                    heartbeat.beat()
                    show(done, count)

                looked = check.inspect(source, config, tell=tell)
        if looked.broken and listing:
            check.write(looked, listing)
        if looked.broken and not may_skip:
            raise DataError(check.refusal(looked, source.name, listing))
        whole = looked.without_broken()
        digested = whole if closely or may_skip else check.recall(source, config)
        content.update((name, facts["content"]) for name, facts in digested.facts.items())
        return looked.broken, about_data.of(check.without(source, looked.broken), whole, config)[0]

    broken, about = ranks.broadcast_from_first(first)
    if about.overlaps:
        texts = "; ".join(overlap.brief() for overlap in about.overlaps)
        notes.append(f"duplicates: {texts} (`python -m runner data …` shows them)")
    return check.without(source, broken), about, content


def _networks(
    config: cfg.Config, mode: modes.Mode, loaders: data.Loaders, notes: list[str], content: dict[str, np.ndarray],
    ranks: parallel.Ranks | None,
) -> tuple[Networks, set[str], dict[str, str]]:  # fmt: skip
    """The networks of a mode, the teachers of other classes, and all teachers' digests; without `ranks`, only those it
    trains."""
    classes = len(loaders.classes)
    trained = {name: models.build(cfg.model_of(config, name), classes, config.data.channels) for name in mode.networks}
    if ranks and isinstance(config.mode, cfg.ClsTeacher):
        frozen, of_other_classes, digests = {}, set(), {}
        for name, one in config.mode.teachers.items():
            teacher_weights = ranks.broadcast_from_first(functools.partial(teacher.read, one, config))
            built = teacher.build(name, one, config, loaders.classes, notes, teacher_weights)
            frozen[name] = built.network
            digests[name] = same_teachers.digest(built.network, teacher_weights[0], config.data, loaders.classes)
            if not built.knows_classes:
                of_other_classes.add(name)
            if ranks.is_first:
                notes += initial.leaks(teacher_weights[0], loaders.source, content)
        return Networks(trained, frozen), of_other_classes, digests
    return Networks(trained), set(), {}


def accelerates(config: cfg.Config) -> bool:
    return device.is_cpu() and config.train.accelerate is cfg.Accelerate.auto


def accelerate(config: cfg.Config, networks: Networks) -> None:
    """Swap layers for faster ones if the config allows it; called again after quantization has made new layers."""
    if accelerates(config):
        for name in networks:
            accelerate_network(networks[name], config.data.input_shape)


def topk(settings: cfg.Train, classes: int) -> int:
    """The k of top-k accuracy; 1, which is no further metric, where chance alone has more than half of images right.

    Where one is monitored it is the largest k, up to `train.topk`, of which an image can be wrong.
    """
    k = max(1, min(settings.topk, classes - 1))
    name = monitored_metric(settings.monitor)
    is_monitored = name != "top1" and re.fullmatch(r"top\d+", name)
    return k if 2 * k <= classes or is_monitored else 1


def sample(loaders: data.Loaders, images: int) -> tuple[str, data.EvalLoader]:
    """(split, its batches): images spread over the validation split, or without one over the training split.

    The first images would all be of the first classes, since folders are read class by class.
    """
    name = "val" if loaders.val else "train"
    split = loaders.source.splits[name]
    count = min(images, len(split))
    return name, data.EvalLoader(split.select(np.arange(count) * len(split) // count), loaders.train.config)


def accuracy(stage: Stage, name: str, batches: Iterable[data.Batch]) -> float:
    """The headline metric of one network."""
    metric = stage.headline
    evaluation = evaluate(Networks({name: stage.networks[name]}), batches, stage.precision, 1, metrics=[metric])
    return evaluation.values[f"{name}/{metric.name}"]
