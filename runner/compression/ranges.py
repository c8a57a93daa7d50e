"""Calibration of the ranges of layers' inputs and weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..errors import ConfigError
from ..models.input_check import evaluating
from . import calibrators, patterns, slim
from .rounding import SMALLEST, levels_of

#: Candidate ranges of a weight, as fractions of its largest magnitude.
TRIED = np.linspace(0.2, 1.0, 41)


def candidates(network: nn.Layer, settings: cfg.Quantization) -> list[str]:
    """Names of the layers of the types that are quantized."""
    kinds = {cfg.LayerType.Conv2D: nn.Conv2D, cfg.LayerType.Linear: nn.Linear}
    chosen = tuple(kinds[kind] for kind in settings.layers)
    return [name for name, layer in network.named_sublayers() if isinstance(layer, chosen)]


def quantizable(network: nn.Layer, settings: cfg.Quantization) -> list[str]:
    """Names of the layers that the settings choose. Errors: ConfigError if there is none."""
    names = candidates(network, settings)
    kept = [name for name in names if not patterns.matches(name, settings.skip)]
    if not kept:
        raise ConfigError(
            f"compression.quantize finds no layer of {type(network).__name__} to quantize: it has {len(names)} of "
            f"{', '.join(kind.value for kind in settings.layers)}, and {len(names)} are skipped. Choose other "
            "compression.quantize.layers or .skip, or compression=none."
        )
    return kept


def measure(
    network: nn.Layer,
    names: list[str],
    images: Iterable[Tensor],
    bits: int,
    algorithm: cfg.Algorithm = cfg.Algorithm.abs_max,
    percentile: float = 1.0,
    batch_statistics: bool = False,
) -> dict[str, float]:
    """Layer → the range of its input over all images: the largest magnitude (`abs_max`), or one that clips some values.

    In eval mode, the network is unchanged; `batch_statistics` normalises by each batch, as in training. images:
    batches, each float32 [n, 3, S, S]. Errors: ConfigError for a layer that is never called, and for one whose inputs
    are not finite.
    """
    layers = dict(network.named_sublayers())
    observers = {name: calibrators.calibrator(algorithm, bits, percentile) for name in names}
    called = set()

    def observe(name: str, activation: Tensor) -> None:
        if not bool(paddle.isfinite(activation).all()):
            raise ConfigError(
                f"compression.quantize: the input of layer {name} is not finite (NaN or infinite), so it has no range. "
                f"Start from weights with finite outputs, or add compression.quantize.skip=[{name}]"
            )
        called.add(name)
        observers[name].observe(activation)

    hooks = [
        layers[name].register_forward_pre_hook(lambda _layer, inputs, own=name: observe(own, inputs[0]))
        for name in names
    ]
    with evaluating(network, hooks, batch_statistics):
        for batch in images:
            network(batch)
    if unused := [name for name in names if name not in called]:
        raise ConfigError(
            f"compression.quantize: no evaluation of {type(network).__name__} calls {', '.join(unused)}, so there is "
            f"nothing to measure a range of. Add compression.quantize.skip=[{','.join(unused)}]"
        )
    return {name: max(SMALLEST, observer.magnitude()) for name, observer in observers.items()}


def first(batches: Iterable[Tensor], count: int) -> list[Tensor]:
    """Batches of the first `count` images, or of all if there are fewer."""
    some: list[Tensor] = []
    for batch in batches:
        some.append(batch[: count - sum(map(len, some))])
        if sum(map(len, some)) >= count:
            break
    return some


def calibration(images: Iterable[Tensor], settings: cfg.Quantization) -> Iterator[Tensor]:
    """The batches that ranges of activations are measured on."""
    return itertools.islice(images, settings.calibration_batches)


def channel_axis(layer: nn.Layer, settings: cfg.Quantization) -> int | None:
    """The axis of a float layer's weight along which ranges differ; None for a single range."""
    if settings.weight_scheme is cfg.WeightScheme.abs_max:
        return None
    return 1 if isinstance(layer, nn.Linear) else 0


def of_weight(weight: np.ndarray, axis: int | None, bits: int, settings: cfg.Quantization) -> np.ndarray:
    """Ranges float32 [channels] or [1] that the settings choose for a weight."""
    largest = np.maximum(slim.largest(weight, axis), SMALLEST).astype(np.float32)
    by_error = isinstance(settings, cfg.LearntQuantization) or (
        isinstance(settings, cfg.CalibratedQuantization) and settings.weight_range is cfg.WeightRange.mse
    )
    if not by_error:
        return largest
    others = tuple(place for place in range(weight.ndim) if place != axis)
    errors = [
        np.square(weight - rounded(weight, largest * np.float32(part), axis, bits)).sum(axis=others).reshape(-1)
        for part in TRIED
    ]
    return (largest * TRIED[np.argmin(errors, axis=0)]).astype(np.float32)


def rounded(weight: np.ndarray, magnitudes: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    """The weight, float32, rounded to its grid: integers of some bits in ranges [channels] or [1], times their
    steps."""
    shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
    levels = levels_of(bits)
    steps = (magnitudes / np.float32(levels)).reshape(shape)
    return np.clip(np.round(weight / steps), -levels, levels) * steps
