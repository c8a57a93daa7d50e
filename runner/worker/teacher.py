"""Loading the frozen teachers of `cls_teacher`: weights, architecture, classes and normalisation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn

from .. import compression, data, models
from .. import config as cfg
from ..checkpoints import fitting, preprocessing, weights
from ..checkpoints.preprocessing import Preprocessing
from ..config import store
from ..errors import CheckpointError, ConfigError
from ..models import Networks
from ..models.names import Names
from ..runs.journal import CONFIG
from ..tracking import lookup
from ..training.modes import followed, with_followed_logits
from . import initial, pretrained
from .input_conversion import adapt_input


class Teacher(NamedTuple):
    """A teacher that is ready to teach."""

    network: nn.Layer
    knows_classes: bool
    """Whether its logits are of the student's classes, in their order; else only its features can be followed."""


def read(settings: cfg.Teacher, config: cfg.Config) -> tuple[weights.Weights, cfg.Config | None]:
    """The weights that the config names and, if `teacher_from` is a run or a checkpoint of one, its config.

    Errors: CheckpointError; ConfigError for a run whose config does not fit this version.
    """
    if settings.teacher_from is None:
        assert settings.teacher is not None
        return pretrained.read_one(settings.teacher, config).weights, None
    origin = lookup.local(settings.teacher_from, lookup.tracking_uri(config))
    own = weights.read(origin)
    if (directory := initial.run_of(origin, Path(own.origin))) is None:
        return own, None
    run = store.read(directory / CONFIG)
    return replace(own, preprocessing=preprocessing.of(run.data)), run


#: Keys below `data` that decide how a picture becomes an array: a difference cannot be undone afterwards.
CUT = ("resize", "crop_ratio", "background")


def build(
    called: str,
    settings: cfg.Teacher,
    config: cfg.Config,
    classes: list[str],
    notes: list[str],
    read: tuple[weights.Weights, cfg.Config | None],
) -> Teacher:
    """A teacher with the weights that were read, for the student's images and classes.

    It receives images in the normalisation it was trained with, and its logits are reordered to the student's classes;
    where only its features are followed, it may have other classes. Errors: CheckpointError or ConfigError if it does
    not fit.
    """
    own_weights, run = read
    own_classes = _classes(called, own_weights, run, config, classes)
    if run and isinstance(run.compression, cfg.Ptq) and not compression.is_quantized(own_weights.arrays):
        notes.append(f"{called}: it teaches in float, as it was before compression=ptq quantized it")
    name = settings.teacher_network
    key = cfg.key_of_teacher(called)
    model = _model(settings, key, config, run)
    teacher = replace(own_weights, arrays=_arrays(own_weights, name, key))
    if run is None:
        # A file does not say which bits and layers were quantized.
        teacher = teacher.without_quantization()
    remedy = f"The teacher needs the architecture and classes it was trained with: model@{key}.teacher=…"
    logits_teach = called in with_followed_logits(config)
    if logits_teach and own_weights.classes is None:
        remedy += f" To follow one of other classes by its features alone: {_features_alone(called, config)}"
    channels = own_weights.preprocessing.get("channels", len(settings.teacher_mean or config.data.mean))
    network, teacher, tables, count, channels = _build(teacher, name, model, len(classes), channels, logits_teach)
    usual = preprocessing.of_published(model, next(iter(tables), None)) if own_weights.is_foreign else {}
    seen = _seen(settings, key, own_weights, config.data, channels, usual)
    if count != len(own_classes or []):
        own_classes = None
    alone = Networks({name: network})
    fitting.restructure(alone, (name,), teacher, run.compression if run else cfg.NoCompression())
    notes.append(f"{called}: {fitting.initialize(alone, (name,), teacher, strict=True, remedy=remedy).line}")
    if own_classes and own_classes != classes:
        order = paddle.to_tensor([own_classes.index(one) for one in classes], "int64")
        network.register_forward_post_hook(lambda _layer, _inputs, logits: paddle.index_select(logits, order, axis=1))
    adapt_input(called, network, config.data, seen, notes)
    notes += _preprocessing_notes(called, key, settings, own_weights, usual, seen, config.data)
    return Teacher(network, own_classes is not None)


def _preprocessing_notes(
    called: str,
    key: str,
    settings: cfg.Teacher,
    own: weights.Weights,
    usual: Preprocessing,
    seen: cfg.Data,
    data: cfg.Data,
) -> list[str]:
    """What differs, or may differ, between the images a teacher sees and those that it was trained with.

    `usual`: the normalisation of published weights of its kind.
    """
    notes = []
    here = preprocessing.of(data)
    if cut := [name for name in preprocessing.differences(own.preprocessing, here) if name in CUT]:
        notes.append(
            f"{called}: it was trained with {preprocessing.overrides(own.preprocessing, cut)}, "
            "and these images are preprocessed differently"
        )
    is_given = settings.teacher_mean is not None and settings.teacher_std is not None
    is_guessed = own.is_foreign or seen.channels != data.channels
    if is_guessed and "mean" not in own.preprocessing and not is_given:
        origin = f"{called}: {own.origin}"
        # What the student's images have cannot be taken for other channels.
        usual = usual if seen.channels == data.channels else {}
        notes += preprocessing.normalisation_notes(origin, usual, preprocessing.of(seen), f"{key}.teacher_")
    return notes


def _classes(
    called: str, own_weights: weights.Weights, run: cfg.Config | None, config: cfg.Config, classes: list[str]
) -> list[str] | None:
    """The teacher's classes, in the order of its logits; None if they do not fit and no term follows the logits.

    Errors: ConfigError or CheckpointError if they do not fit and one does.
    """
    own_classes = own_weights.classes or classes
    missing = [one for one in classes if one not in own_classes]
    has_other_labels = run is not None and run.data.many != config.data.many
    if called not in with_followed_logits(config):
        return None if missing or has_other_labels else own_classes
    if run and has_other_labels:
        raise ConfigError(
            f"The teacher {own_weights.origin} was trained with data.labels={run.data.labels.name}, and here is "
            f"data.labels={config.data.labels.name}: its outputs mean something else. Use another one, or follow its "
            f"features alone: {_features_alone(called, config)}"
        )
    if missing:
        raise CheckpointError(
            f"The teacher {own_weights.origin} lacks {data.listed(missing)}.\n"
            f"  images:  {data.listed(classes)}\n  teacher: {data.listed(own_classes)}\n"
            "Use a teacher that was trained on these classes, or follow the features of this one alone: "
            f"{_features_alone(called, config)}"
        )
    return own_classes


def _features_alone(called: str, config: cfg.Config) -> str:
    """The overrides with which only the features of a teacher are followed."""
    words = []
    for key, one in config.mimics.items():
        others = [name for name in followed(config.mode, one) if name != called]
        if len(others) < len(followed(config.mode, one)):
            words.append(f"{key}.teachers=[{','.join(others)}]" if others else f"~{key}")
    return " ".join([*words, *([] if config.features else ["features=rkd features.layers=[…]"])])


def _build(
    own: weights.Weights, name: str, model: cfg.Model, classes: int, channels: int, logits_teach: bool
) -> tuple[nn.Layer, weights.Weights, list[Names], int | None, int]:
    """A network of the teacher's architecture and classes, before its weights are loaded.

    Also the weights under its names, the tables that they were translated by, its number of classes (None if that
    cannot be found out) and of channels, which are those of `channels` where the weights do not tell. The file of a
    teacher that is followed by its logits has to have the student's classes.
    """
    built = len(own.classes) if own.classes else classes
    count: int | None = built
    network = models.build(model, built, channels)
    own, tables = fitting.translate(own, Networks({name: network}), {name: model})
    if not own.classes and not logits_teach:
        count = _outputs(own, name, model, classes, channels)
    taken = _inputs(own, name, initial.stem_of(model, network, built, channels)) or channels
    if (count or built, taken) != (built, channels):
        network = models.build(model, count or built, taken)
    return network, own, tables, count, taken


def _outputs(own: weights.Weights, name: str, model: cfg.Model, classes: int, channels: int) -> int | None:
    """How many classes the head of a network has in these weights; None if that cannot be found out.

    `classes`: a number of classes that the network can be built with.
    """
    arrays, head = fitting.by_network(own.arrays, (name,)), initial.head_of(model, classes, channels)
    stored = [(arrays[f"{name}.{key}"], axis) for key, axis in head.items() if f"{name}.{key}" in arrays]
    counts = {array.shape[axis] for array, axis in stored if array.ndim > axis}
    return counts.pop() if len(counts) == 1 else None


def _inputs(own: weights.Weights, name: str, stem: list[str]) -> int | None:
    """How many channels the images of a network have by the weights of its stem; None if that cannot be found out."""
    arrays = fitting.by_network(own.arrays, (name,))
    stored = [arrays[key] for one in stem if (key := f"{name}.{one}") in arrays]
    counts = {array.shape[1] for array in stored if array.ndim == 4}
    return counts.pop() if len(counts) == 1 else None


def _arrays(own_weights: weights.Weights, name: str, key: str) -> dict[str, np.ndarray]:
    """A network's arrays of a checkpoint, which has several; those of a file are of one. Errors: CheckpointError."""
    held = {owner for array in own_weights.arrays if fitting.NETWORK.fullmatch(owner := array.partition(".")[0])}
    if held and name not in held:
        raise CheckpointError(
            f"{key}.teacher_network={name}: {own_weights.origin} has no such network. It has: {', '.join(sorted(held))}"
        )
    if held:
        return {array: value for array, value in own_weights.arrays.items() if array.startswith(f"{name}.")}
    return {f"{name}.{array}": value for array, value in own_weights.arrays.items()}


def _seen(
    settings: cfg.Teacher, key: str, own_weights: weights.Weights, data: cfg.Data, channels: int, usual: Preprocessing
) -> cfg.Data:
    """The preprocessing a teacher expects: that of its weights where it is known, unless the config overrides it.

    Where it is not known: the student's, and for other channels what is `usual`. Errors: ConfigError unless there is
    one number a channel.
    """
    expected: dict[str, Any] = {name: value for name, value in own_weights.preprocessing.items() if name not in CUT}
    if channels != data.channels:
        repeated = {name: [float(np.mean(getattr(data, name)))] * channels for name in ("mean", "std")}
        usual_ones = dict(usual) if usual.get("channels") == channels else {}
        expected = {"channels": channels} | repeated | usual_ones | expected
    data = replace(data, **expected)
    overridden = {"mean": settings.teacher_mean, "std": settings.teacher_std, "image_size": settings.teacher_image_size}
    for name in ("mean", "std"):
        if (values := overridden[name]) is not None and len(values) != data.channels:
            raise ConfigError(
                f"{key}.teacher_{name}={values}: needs a number for each channel, and the teacher takes images of "
                f"{data.channels}. Give it {data.channels}, or remove it."
            )
    return replace(data, **{name: value for name, value in overridden.items() if value is not None})


def _model(settings: cfg.Teacher, key: str, config: cfg.Config, run: cfg.Config | None) -> cfg.Model:
    """The architecture that the config names, else that of the teacher's run, else the student's."""
    if settings.teacher is not None or run is None:
        return settings.teacher or config.model
    model = cfg.model_of(run, settings.teacher_network)
    if isinstance(model, cfg.CustomModel) and not settings.trust:
        raise ConfigError(
            f"{settings.teacher_from} was trained with a model of its own, {model.target}, which would be imported and "
            f"called. If you trust whoever made that run: {key}.trust=true"
        )
    return model
