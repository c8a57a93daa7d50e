"""Loading the frozen teachers of `cls_teacher`: weights, architecture, classes and normalisation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

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
#: The luma of red, green and blue, as ITU-R BT.601 and Pillow have it.
LUMA = (0.299, 0.587, 0.114)


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
    seen = _seen(settings, key, own_weights, config.data)
    teacher = replace(own_weights, arrays=_arrays(own_weights, name, key))
    if run is None:
        # A file does not say which bits and layers were quantized.
        teacher = teacher.without_quantization()
    remedy = f"The teacher needs the architecture and classes it was trained with: model@{key}.teacher=…"
    logits_teach = called in with_followed_logits(config)
    if logits_teach and own_weights.classes is None:
        remedy += f" To follow one of other classes by its features alone: {_features_alone(called, config)}"
    network, teacher, tables, count = _fitting(teacher, name, model, len(classes), seen.channels, logits_teach)
    if count != len(own_classes or []):
        own_classes = None
    alone = Networks({name: network})
    fitting.restructure(alone, (name,), teacher, run.compression if run else cfg.NoCompression())
    notes.append(f"{called}: {fitting.initialize(alone, (name,), teacher, strict=True, remedy=remedy).line}")
    if own_classes and own_classes != classes:
        order = paddle.to_tensor([own_classes.index(one) for one in classes], "int64")
        network.register_forward_post_hook(lambda _layer, _inputs, logits: paddle.index_select(logits, order, axis=1))
    adapt_input(called, network, config.data, seen, notes)
    usual = preprocessing.of_published(next(iter(tables), None))
    notes += _preprocessing_notes(called, key, own_weights, usual, seen, config.data)
    return Teacher(network, own_classes is not None)


def _preprocessing_notes(
    called: str, key: str, own: weights.Weights, usual: Preprocessing, seen: cfg.Data, data: cfg.Data
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
    is_guessed = own.is_foreign and not own.preprocessing
    differing = [name for name in preprocessing.differences(usual, preprocessing.of(seen)) if name in ("mean", "std")]
    if is_guessed and differing:
        notes.append(
            f"{called}: {own.origin} does not say how its images were normalised. Published weights of this kind were "
            f"trained with {preprocessing.overrides(usual, differing, f'{key}.teacher_')}"
        )
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


def _fitting(
    own: weights.Weights, name: str, model: cfg.Model, classes: int, channels: int, logits_teach: bool
) -> tuple[nn.Layer, weights.Weights, list[Names], int | None]:
    """A network of the teacher's architecture and classes, before its weights are loaded.

    Also the weights under its names, the tables that they were translated by, and its number of classes; None if that
    cannot be found out. The file of a teacher that is followed by its logits has to have the student's.
    """
    built = len(own.classes) if own.classes else classes
    count: int | None = built
    network = models.build(model, built, channels)
    own, tables = fitting.translate(own, Networks({name: network}), {name: model})
    if not own.classes and not logits_teach:
        count = _outputs(own, name, model, classes, channels)
        if count and count != classes:
            network = models.build(model, count, channels)
    return network, own, tables, count


def _outputs(own: weights.Weights, name: str, model: cfg.Model, classes: int, channels: int) -> int | None:
    """How many classes the head of a network has in these weights; None if that cannot be found out.

    `classes`: a number of classes that the network can be built with.
    """
    arrays, head = fitting.by_network(own.arrays, (name,)), initial.head_of(model, classes, channels)
    stored = [(arrays[f"{name}.{key}"], axis) for key, axis in head.items() if f"{name}.{key}" in arrays]
    counts = {array.shape[axis] for array, axis in stored if array.ndim > axis}
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


def _seen(settings: cfg.Teacher, key: str, own_weights: weights.Weights, data: cfg.Data) -> cfg.Data:
    """The preprocessing a teacher expects: that of its weights where it is known, unless the config overrides it.

    Errors: ConfigError unless there is one number a channel.
    """
    known: dict[str, Any] = {name: value for name, value in own_weights.preprocessing.items() if name not in CUT}
    data = replace(data, **known)
    overridden = {"mean": settings.teacher_mean, "std": settings.teacher_std, "image_size": settings.teacher_image_size}
    for name in ("mean", "std"):
        if (values := overridden[name]) is not None and len(values) != data.channels:
            raise ConfigError(
                f"{key}.teacher_{name}={values}: needs a number for each channel, and the teacher takes images of "
                f"{data.channels}. Give it {data.channels}, or remove it."
            )
    return replace(data, **{name: value for name, value in overridden.items() if value is not None})


def adapt_input(called: str, network: nn.Layer, source: cfg.Data, target: cfg.Data, notes: list[str]) -> None:
    """Have a network convert its input from the images of `source` to those of `target`, which it was trained on."""
    matrix, shift = conversion(source, target)
    is_same = source.channels == target.channels and np.allclose(matrix, np.eye(source.channels)) and not shift.any()
    if is_same and source.size == target.size:
        return
    size = "×".join(map(str, target.size))
    notes.append(f"{called}: it sees the images in its own normalisation and in {size} pixels")
    convert = functools.partial(_converted, matrix=matrix, shift=shift)

    def convert_input(_layer: nn.Layer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images = inputs[0] if is_same else convert(inputs[0])
        return (resize(images, target.size), *inputs[1:])

    network.register_forward_pre_hook(convert_input)


def conversion(source: cfg.Data, target: cfg.Data) -> tuple[np.ndarray, np.ndarray]:
    """(matrix [known channels, given channels], shift [known channels]) from images normalised one way to another.

    Colour becomes grey by its luma, and grey becomes three equal channels. Errors: ConfigError for other channels.
    """
    match (source.channels, target.channels):
        case (one, other) if one == other:
            mix = np.eye(one)
        case (3, 1):
            mix = np.array([LUMA])
        case (1, 3):
            mix = np.ones((3, 1))
        case (channels, wanted):
            raise ConfigError(
                f"The teacher takes images of {wanted} channels, and data.channels={channels}. Take another."
            )
    mean, std, own_mean, own_std = (np.array(numbers) for numbers in (source.mean, source.std, target.mean, target.std))
    matrix = mix * std / own_std[:, None]
    shift = (mix @ mean - own_mean) / own_std
    return matrix, np.where(np.abs(shift) < 1e-9, 0, shift)


def _converted(images: Tensor, matrix: np.ndarray, shift: np.ndarray) -> Tensor:
    """float32 [N, C, H, W] to [N, C', H, W]."""
    # A channel at a time: Paddle 3.3.1 broadcasts [1, C, 1, 1] slowly on a CPU.
    channels = [
        sum(float(factor) * images[:, place] for place, factor in enumerate(row) if factor) + float(constant)
        for row, constant in zip(matrix, shift, strict=True)
    ]
    return paddle.stack(channels, axis=1)


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """float32 [N, C, H, W] at another size: bilinear for upscaling, area averages for downscaling."""
    if list(images.shape[2:]) == list(size):
        return images
    grows = size[0] * size[1] > images.shape[2] * images.shape[3]
    how = {"mode": "bilinear", "align_corners": False} if grows else {"mode": "area"}
    return F.interpolate(images, size=list(size), **how)


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
