"""The weights that a run starts from, of another run or of a file, and how they differ from what this one needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as cfg
from .. import models, runs
from ..checkpoints import fitting, preprocessing, state, weights
from ..data import ClassMismatch, ExpectedClasses, identity, seen
from ..data.splits import Source
from ..errors import ConfigError
from ..models import Networks, stem
from ..runs.journal import CHECKPOINTS, CONFIG
from ..terminal import counted
from ..tracking import lookup
from ..training import seeding

if TYPE_CHECKING:
    import numpy as np
    from paddle import nn

#: Keys below `data` that say where images are.
PLACES = ("root", "train", "val", "test")


@dataclass
class InitialWeights:
    """Weights, and the config of the run that they come from."""

    weights: weights.Weights
    """Without those of fake quantization."""
    run: cfg.Config | None = None
    """None if they come from a file."""
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> ExpectedClasses | None:
        """The classes that they were trained on; None if they come from a file."""
        if self.weights.classes is None:
            return None
        remedy = "To load everything but the classifier head: checkpoint.strict=false"
        return ExpectedClasses(self.weights.classes, self.weights.origin, remedy=remedy)


def read(config: cfg.Config) -> InitialWeights | None:
    """What `checkpoint.init_from` names.

    Errors: CheckpointError; ConfigError if nothing is trained and the preprocessing differs.
    """
    if not config.checkpoint.init_from:
        return None
    initial = read_source(config.checkpoint.init_from, config)
    trained = cfg.model_choice(initial.run.model) if initial.run else ""
    other = f"{trained} " if trained and trained != cfg.model_choice(config.model) else ""
    initial.notes += preprocessing_notes(initial.weights, config, model=other)
    return initial


def read_source(named: str, config: cfg.Config) -> InitialWeights:
    """The weights of a run or file that a key of the config names, and how their images were preprocessed.

    Errors: CheckpointError.
    """
    source = lookup.local(named, lookup.tracking_uri(config))
    own = weights.read(source)
    plain, notes = own.without_quantization(), []
    if len(plain.arrays) < len(own.arrays):
        notes.append(f"{own.origin} is quantized: its weights are used, its ranges are not")
    directory = run_of(source, Path(own.origin))
    # The weights of another version's run are still usable.
    run = runs.config_of(directory) if directory else None
    if run:
        plain = replace(plain, preprocessing=preprocessing.of(run.data))
    return InitialWeights(plain, run, notes)


def run_of(source: Path, origin: Path) -> Path | None:
    """The directory of the run that a source is, or that the checkpoint `origin`, read from it, is of; else None."""
    places = [source, *([origin.parent.parent] if origin.is_dir() and origin.parent.name == CHECKPOINTS else [])]
    return next((place for place in places if (place / CONFIG).is_file()), None)


def preprocessing_notes(own: weights.Weights, config: cfg.Config, model: str = "") -> list[str]:
    """A note if the images that weights were trained with were preprocessed differently from these.

    `model`: an override that their network needs as well.

    Errors: ConfigError if nothing is trained here.
    """
    if not (differing := preprocessing.differences(own.preprocessing, preprocessing.of(config.data))):
        return []
    repeated = preprocessing.overrides(own.preprocessing, differing)
    if not config.train.trains:
        raise ConfigError(
            f"Nothing is trained here, and {own.origin} was trained with different preprocessing "
            f"({', '.join(differing)}), so its accuracy would be wrong. Use its settings: {model}{repeated}"
        )
    return [f"{own.origin} was trained with different preprocessing; to use the same: {repeated}"]


def same_place(one: cfg.Data, other: cfg.Data) -> bool:
    """Whether both say that their images are in the same place."""
    return all(getattr(one, key, None) == getattr(other, key, None) for key in PLACES)


def leaks(
    own: weights.Weights, source: Source, content: Mapping[str, np.ndarray], splits: Iterable[str] | None = None
) -> list[str]:
    """A note for each split that has images which weights were trained on; by default for every split but `train`.

    `content`: split → digests of its images' bytes, where they are known.
    """
    if own.trained_on is None:
        return []
    notes = []
    for name in [name for name in source.splits if name != "train"] if splits is None else splits:
        split, word = source.splits[name], f"{name} " * (len(source.splits) > 1)
        every = counted(len(split), f"{word}image")
        if count := int(seen.keys(split, content.get(name)).among(own.trained_on).sum()):
            notes.append(
                f"{own.origin} was trained on {count:,} of the {every}: numbers measured on them "
                "are too good. Keep these images in a folder or list of their own"
            )
    return notes


def unrecognised(own: weights.Weights, trained: cfg.Data, here: cfg.Data, source: Source) -> list[str]:
    """A note if the weights were trained on another split of these images, and images cannot be recognised.

    Checkpoints of earlier versions do not say which images they were trained on; pixels of another size do not match.
    """
    images = own.trained_on
    is_same = not preprocessing.differences(preprocessing.of(trained), preprocessing.of(here))
    is_known = images is not None and (not images or images.names.any() or is_same)
    if is_known or not same_place(trained, here):
        return []
    before, now = state.read(Path(own.origin)).splits, identity.digests(source)
    if not before or all(before.get(split) == now[split] for split in now if split != "train"):
        return []
    return [
        f"{own.origin} was trained on another split of {source.name}: images that it was trained on may be measured on "
        "here, and the numbers be too good. Keep a test split in a folder or list of its own"
    ]


def load_into(
    initial: InitialWeights, config: cfg.Config, networks: Networks, classes: Sequence[str]
) -> tuple[dict[str, Any], fitting.Loaded]:
    """Load weights, with their pruned channels, into networks; returns what was pruned from each of them.

    Errors: CheckpointError if they do not fit.
    """
    own, strict = initial.weights, config.checkpoint.strict
    own, _ = fitting.translate(own, networks, {name: cfg.model_of(config, name) for name in networks.trained})
    if own.plan:
        fitting.restructure(networks, networks.trained, own, cfg.NoCompression())
    remedy = "Choose the same model and number of classes, or load what fits: checkpoint.strict=false"
    if initial.run:
        differing = preprocessing.differences(own.preprocessing, preprocessing.of(config.data))
        others = f", {preprocessing.overrides(own.preprocessing, differing)}" if differing else ""
        remedy = (
            f"That run has {cfg.model_choice(initial.run.model)} and data={initial.run.data.kind}{others}: repeat "
            "its overrides, or load what fits: checkpoint.strict=false"
        )
    anew: set[str] = set()
    if own.classes is not None and list(classes) != own.classes:
        anew = {f"{network}.{name}" for network in networks.trained for name in head(config, network, len(classes))}
        require_training(config, own.origin, "the weights were trained on other classes")
    loaded = fitting.initialize(networks, networks.trained, own, strict, remedy, anew)
    if anew:
        heads = sorted({name.partition(".")[2] for name in anew})
        loaded.line += f"; {', '.join(heads)} are re-initialised: the weights were trained on other classes"
    return fitting.plans(own, networks.trained), loaded


def require_training(config: cfg.Config, origin: str, why: str) -> None:
    """Errors: ConfigError if nothing is trained, so that parameters that do not come from `origin` would be random."""
    if not config.train.trains:
        raise ConfigError(
            f"Nothing is trained here, and parts of the network would stay random, since {why}: {origin}. Train it "
            "(train.epochs=10), or give weights that were trained on these classes: checkpoint.init_from=RUN"
        )


def head(config: cfg.Config, network: str, classes: int) -> dict[str, int]:
    """As `head_of`, of the network that the config has under this name."""
    return head_of(cfg.model_of(config, network), classes, config.data.channels)


def head_of(model: cfg.Model, classes: int, channels: int) -> dict[str, int]:
    """The head's parameters, without the network's name → the axis whose length follows the number of classes."""
    random_state = seeding.state()
    few, more = (models.build(model, count, channels).state_dict() for count in (classes, classes + 1))
    seeding.restore(random_state)
    shapes = {name: list(zip(value.shape, more[name].shape, strict=True)) for name, value in few.items()}
    return {
        name: next(axis for axis, (one, other) in enumerate(sides) if one != other)
        for name, sides in shapes.items()
        if any(one != other for one, other in sides)
    }


def stem_of(model: cfg.Model, network: nn.Layer, classes: int, channels: int) -> list[str]:
    """Names of the weights that take the images of a network, which was built for `channels`; no depthwise ones.

    A few layers inside of a network may have as few channels as images: those of the network for RGB are compared.
    """
    if channels != 3 and not isinstance(model, cfg.CustomModel):
        random_state = seeding.state()
        network, channels = models.build(model, classes), 3
        seeding.restore(random_state)
    return stem.parameters(network, channels)


def classes_for(initial: InitialWeights | None, config: cfg.Config) -> ExpectedClasses | None:
    """The classes that the images must have for these weights."""
    expected = initial and initial.classes
    if expected and not config.checkpoint.strict:
        return replace(expected, mismatch=ClassMismatch.ignored)
    return expected or None
