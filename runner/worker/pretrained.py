"""Pretrained weights of single networks: what `model.weights` names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from paddle import nn

from .. import config as cfg
from .. import terminal
from ..checkpoints import fitting, imagenet, preprocessing, weights
from ..data import listed
from ..errors import CheckpointError
from ..models import Networks
from ..runs.protocol import Heartbeat
from . import initial
from .initial import InitialWeights

#: A convolution over more channels than this does not see images.
MOST_CHANNELS = 4


def read(config: cfg.Config, names: Iterable[str]) -> dict[str, InitialWeights]:
    """Network → the weights that its config names, if any.

    Errors: CheckpointError; ConfigError if nothing is trained and the preprocessing differs.
    """
    by_network: dict[str, InitialWeights] = {}
    for name in names:
        model = cfg.model_of(config, name)
        if model.weights:
            by_network[name] = one = read_one(model, config)
            one.notes += initial.preprocessing_notes(one.weights, config)
    return by_network


def read_one(model: cfg.Model, config: cfg.Config) -> InitialWeights:
    """The weights that a network's config names. Errors: CheckpointError."""
    assert model.weights is not None
    is_published = model.weights == cfg.PUBLISHED
    own = _read_published(model, config) if is_published else initial.read_source(model.weights, config)
    if own.weights.plan:
        raise CheckpointError(
            f"{own.weights.origin} is of a pruned network, and model.weights keeps the architecture. "
            "To continue with the pruned one: checkpoint.init_from=RUN"
        )
    return own


def _read_published(model: cfg.Model, config: cfg.Config) -> InitialWeights:
    heartbeat = Heartbeat()
    with terminal.progress("downloading weights") as show:

        def tell(done: int, count: int) -> None:
            heartbeat.beat()
            show(done, count)

        source = imagenet.file_of(model, config.checkpoint.mirror, tell)
    normalisation = preprocessing.of_published(model, imagenet.names_of(model))
    return InitialWeights(replace(weights.read(source), preprocessing=normalisation))


def load_into(
    pretrained: dict[str, InitialWeights], config: cfg.Config, networks: Networks, classes: Sequence[str]
) -> tuple[list[str], dict[str, set[str]]]:
    """Load the weights into the networks. Errors: CheckpointError.

    Returns notes for the user, and network → what keeps its initial values, as in `fitting.Loaded`.
    """
    notes: list[str] = []
    random: dict[str, set[str]] = {}
    for name, one in pretrained.items():
        own, random[name] = load_one(name, one, cfg.model_of(config, name), networks, config, classes)
        notes += own
    return notes, random


def load_one(
    name: str,
    pretrained: InitialWeights,
    model: cfg.Model,
    networks: Networks,
    config: cfg.Config,
    classes: Sequence[str],
) -> tuple[list[str], set[str]]:
    """Load the weights of one network. Returns and errors as in `load_into`."""
    own, tables = fitting.translate(_single(pretrained.weights), networks, {name: model})
    own = replace(own, arrays=fitting.by_network(own.arrays, (name,)))
    own, anew, notes = adapt(own, name, networks[name], config, classes)
    loaded = fitting.initialize(
        Networks({name: networks[name]}),
        (name,),
        own,
        config.checkpoint.strict,
        "Choose their model (`python -m runner models`). If most of it fits: checkpoint.strict=false",
        anew,
    )
    names = f", by the names of {tables[0].source}" if tables else ""
    notes = [*pretrained.notes, "; ".join([f"{name}: {loaded.line}{names}", *notes])]
    if own.is_foreign and not own.preprocessing:
        usual = preprocessing.of_published(model, next(iter(tables), None))
        notes += preprocessing.normalisation_notes(own.origin, usual, preprocessing.of(config.data))
    if own.is_foreign and "image_size" not in own.preprocessing:
        notes += preprocessing.size_notes(own.origin, model, preprocessing.of(config.data))
    return notes, loaded.random


def _single(own: weights.Weights) -> weights.Weights:
    """The weights of the student if the run has several networks."""
    networks = {key: key.partition(".")[0] for key in own.arrays}
    peers = {key for key, name in networks.items() if name != "student" and fitting.NETWORK.fullmatch(name)}
    return replace(own, arrays={key: array for key, array in own.arrays.items() if key not in peers})


def adapt(
    own: weights.Weights, name: str, network: nn.Layer, config: cfg.Config, classes: Sequence[str]
) -> tuple[weights.Weights, set[str], list[str]]:
    """Weights with the first convolution and the head adapted to these images and classes.

    Returns them, the parameters that keep their initial weights, and a description. Head rows of known classes are
    matched by name.
    """
    arrays = dict(own.arrays)
    wanted = {f"{name}.{key}": value.shape for key, value in network.state_dict().items()}
    reshaped = {key for key, value in arrays.items() if key in wanted and list(value.shape) != wanted[key]}
    model, channels = cfg.model_of(config, name), config.data.channels
    stems = {f"{name}.{key}" for key in initial.stem_of(model, network, len(classes), channels)} if reshaped else set()
    anew, notes = _adapt_stem(arrays, sorted(reshaped & stems), wanted, channels)
    reshaped = {key for key in reshaped - anew if list(arrays[key].shape) != wanted[key]}
    own_classes = own.classes
    if reshaped or (own_classes is not None and own_classes != list(classes)):
        head = {f"{name}.{key}": axis for key, axis in initial.head(config, name, len(classes)).items()}
        counts = {arrays[key].shape[axis] for key, axis in head.items() if key in arrays and arrays[key].ndim > axis}
        places = [own_classes.index(one) for one in classes if one in own_classes] if own_classes else []
        if len(places) == len(classes) and counts == {len(own_classes or [])}:
            for key in head.keys() & arrays:
                arrays[key] = arrays[key].take(places, head[key])
            notes.append(f"the head has the rows of these classes by name, {len(classes)} of {len(own_classes or [])}")
        elif own_classes is not None or head.keys() & reshaped:
            why = _why(own_classes, classes, max(counts, default=None))
            notes.append(f"{_joined(head)} are re-initialised: {why}")
            anew |= head.keys()
    if anew:
        initial.require_training(config, own.origin, notes[-1])
    return replace(own, arrays=arrays), anew, notes


def _adapt_stem(
    arrays: dict[str, np.ndarray], reshaped: Sequence[str], wanted: dict[str, list[int]], channels: int
) -> tuple[set[str], list[str]]:
    """Adapt, in place, convolutions that see the images; those with another kernel size keep their initial weights."""
    anew, notes = set[str](), []
    for key in reshaped:
        shape, array = wanted[key], arrays[key]
        if array.ndim != 4 or array.shape[1] > MOST_CHANNELS:
            continue
        if [shape[0], *shape[2:]] == [array.shape[0], *array.shape[2:]]:
            arrays[key] = with_channels(array, channels)
            notes.append(f"{_joined([key])} is adapted from {array.shape[1]} channels to {channels}")
        else:
            anew.add(key)
            notes.append(f"{_joined([key])} {shape} is re-initialised: the weights have {list(array.shape)}")
    return anew, notes


def with_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Weights [O, C, k, k] for `channels` inputs: summed for one, else repeated and rescaled to the same sum."""
    if channels == 1:
        return array.sum(1, keepdims=True)
    places = np.arange(channels) % array.shape[1]
    return (array[:, places] * (array.shape[1] / channels)).astype(array.dtype)


def _joined(keys: Iterable[str]) -> str:
    """Names of parameters without that of their network."""
    return ", ".join(sorted(key.partition(".")[2] for key in keys))


def _why(own_classes: list[str] | None, classes: Sequence[str], count: int | None) -> str:
    if own_classes is None:
        others = terminal.counted(count, "class", "classes") if count else "other classes"
        return f"the weights are for {others}, not {len(classes)}"
    foreign = [one for one in classes if one not in own_classes]
    return f"the weights lack {listed(foreign, 3)}"
