"""PaddleSlim 2.6 on Paddle 3: its quantizer, with the necessary workarounds.

No other file knows of its quirks. Tested with Paddle 3.3.1 and PaddleSlim 2.6.0.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeAlias, Union

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import FakeQuantChannelWiseAbsMax, QuantizedConv2D, QuantizedLinear

from .. import config as cfg
from ..errors import ConfigError
from .rounding import AbsMaxRounding, Rounding, bits_of, levels_of

#: A layer that quantizes its input and its weight before it computes, in float.
FakeQuantized: TypeAlias = Union[QuantizedConv2D, QuantizedLinear]


def check_versions() -> None:
    """Errors: ConfigError if the installed PaddleSlim or Paddle is not supported here."""
    try:
        with warnings.catch_warnings():
            # Its import of setuptools warns.
            warnings.simplefilter("ignore")
            import paddleslim  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"quantization needs PaddleSlim: {error}. Install it: pip install 'paddleslim>=2.6,<3'"
        ) from error
    needed = {
        "paddle.quantization.ImperativeQuantAware": hasattr(paddle.quantization, "ImperativeQuantAware"),
    }
    if missing := [name for name, there in needed.items() if not there]:
        raise ConfigError(
            f"quantization does not work with PaddleSlim {importlib.metadata.version('paddleslim')} on Paddle "
            f"{paddle.__version__}: {', '.join(missing)} is missing. Versions that work: paddleslim 2.6.0 with "
            "paddlepaddle 3.3.1."
        )


def fake_quantize(
    network: nn.Layer, settings: cfg.Quantization, names: list[str], clip: type[nn.Layer] | None = None
) -> None:
    """Put fake quantization before the named layers, in place; parameters keep their names.

    `clip` is the class of a layer that each activation passes first. The ranges of activations are not set yet.
    """
    check_versions()
    from paddleslim import QAT

    chosen = set(names)
    trained = settings if isinstance(settings, cfg.TrainedQuantization) else cfg.TrainedQuantization()
    quantizer = QAT(
        {
            "weight_quantize_type": settings.weight_scheme.value,
            "activation_quantize_type": "moving_average_abs_max",
            "weight_bits": settings.weight_bits,
            "activation_bits": settings.activation_bits,
            "moving_rate": trained.moving_rate,
            "quantizable_layer_type": [kind.value for kind in settings.layers],
        },
        act_preprocess=clip,
    )
    for name, layer in network.named_sublayers():
        layer.skip_quant = name not in chosen
    places = [
        (parent, name, layer)
        for parent in network.sublayers(include_self=True)
        for name, layer in parent._sub_layers.items()
    ]
    # QAT.quantize would deep-copy the network for its own export, and add observers of outputs that no export here
    # reads; `onnx_format` even makes quantizers of them.
    quantizer.imperative_qat._quantize_inputs.apply(network)
    # Of several places of one layer it replaces the first alone.
    replaced = {id(layer): now for parent, name, layer in places if (now := parent._sub_layers[name]) is not layer}
    for parent, name, layer in places:
        parent._sub_layers[name] = replaced.get(id(layer), layer)
    for layer in fake_quantized(network).values():
        # Paddle writes the weight's range at every forward pass, an evaluation's too, and nobody reads it.
        layer._fake_quant_weight._parameters.pop("_scale", None)
        layer._fake_quant_weight._scale = None


def fake_quantized(network: nn.Layer) -> dict[str, FakeQuantized]:
    """Name → layer of every layer that quantizes."""
    return {
        name: layer
        for name, layer in network.named_sublayers()
        if isinstance(layer, (QuantizedConv2D, QuantizedLinear))
    }


def is_quantization(name: str) -> bool:
    """Whether a tensor of this name is one that only fake quantization has."""
    return "._fake_quant_" in name or "._act_preprocess." in name


def parameters(network: nn.Layer, trainable: bool = False) -> int:
    """Parameters of a network without running statistics and those of its fake quantization.

    `trainable`: without frozen ones.
    """
    return sum(
        parameter.size
        for name, parameter in network.named_parameters()
        if not name.endswith(("._mean", "._variance"))
        and not is_quantization(name)
        and not (trainable and parameter.stop_gradient)
    )


def clip(layer: FakeQuantized) -> nn.Layer | None:
    """What a layer's activation passes before it is rounded."""
    return layer._act_preprocess


def bits(layer: FakeQuantized) -> tuple[int, int]:
    """Bits of a layer's weight and of its activation."""
    weight, activation = (
        bits_of(quantizer) if isinstance(quantizer, (Rounding, AbsMaxRounding)) else int(quantizer._quant_bits)
        for quantizer in (layer._fake_quant_weight, layer._fake_quant_input)
    )
    return weight, activation


def set_weight_bits(layer: FakeQuantized, bits: int) -> None:
    """Set the bits of a layer's weight."""
    quantizer = layer._fake_quant_weight
    if isinstance(quantizer, (Rounding, AbsMaxRounding)):
        quantizer.levels.set_value(paddle.to_tensor([levels_of(bits)], "int32"))
    else:
        quantizer._quant_bits = bits


def set_rounding(
    layer: FakeQuantized, weight: Rounding | AbsMaxRounding | None = None, activation: Rounding | None = None
) -> None:
    """Replace Paddle's rounding of a layer's weight, its activation or both."""
    if weight is not None:
        layer._fake_quant_weight = weight
    if activation is not None:
        layer._fake_quant_input = activation


@paddle.no_grad()
def rounded_weight(layer: FakeQuantized) -> Tensor:
    """The weight as the layer computes with it: integers times their step."""
    return layer._fake_quant_weight(layer.weight)


def set_range(layer: FakeQuantized, magnitude: float) -> None:
    """Set the range of a layer's activation to [-magnitude, magnitude]; training continues from there."""
    quantizer = layer._fake_quant_input
    if isinstance(quantizer, Rounding):
        quantizer.set_range(np.full(1, magnitude))
        return
    # The moving average is accum / state.
    for tensor, value in ((quantizer._scale, magnitude), (quantizer._accum, magnitude), (quantizer._state, 1.0)):
        tensor.set_value(np.full(tensor.shape, value, dtype=np.float32))


def set_weight_range(layer: FakeQuantized, magnitudes: np.ndarray) -> None:
    """Set the ranges of a layer's weight, float32 [channels] or [1], if it stores any."""
    if isinstance(layer._fake_quant_weight, Rounding):
        layer._fake_quant_weight.set_range(magnitudes)


def range_state(layer: FakeQuantized) -> list[Tensor]:
    """The tensors float32 [1] that follow the activations of a layer: accumulated magnitude, its weight, the range.

    Empty if the range is a parameter.
    """
    quantizer = layer._fake_quant_input
    return [] if isinstance(quantizer, Rounding) else [quantizer._accum, quantizer._state, quantizer._scale]


def range_keeper(layer: FakeQuantized) -> nn.Layer:
    """The layer that changes these tensors in training mode."""
    return layer._fake_quant_input


def activation_range(layer: FakeQuantized) -> float:
    """The magnitude that the largest integer of a layer's activation stands for."""
    quantizer = layer._fake_quant_input
    return float(quantizer.magnitudes[0] if isinstance(quantizer, Rounding) else quantizer._scale)


def weight_ranges(layer: FakeQuantized) -> np.ndarray:
    """float32 [channels] or [1]: the magnitude that the largest integer of a channel's (or every) weight stands for."""
    quantizer = layer._fake_quant_weight
    if isinstance(quantizer, Rounding):
        return quantizer.magnitudes
    return largest(layer.weight.numpy(), channel_axis(layer))


def channel_axis(layer: FakeQuantized) -> int | None:
    """The axis of a weight's output channels, if each has its own range."""
    quantizer = layer._fake_quant_weight
    if isinstance(quantizer, (Rounding, AbsMaxRounding)):
        return quantizer.axis
    return quantizer._quant_axis if isinstance(quantizer, FakeQuantChannelWiseAbsMax) else None


def largest(weight: np.ndarray, axis: int | None) -> np.ndarray:
    """float32 [channels] or [1]: the largest magnitude along an axis, or of all."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    return np.abs(weight).max(axis=others).reshape(-1)


@contextlib.contextmanager
def in_float(layers: Iterable[FakeQuantized]) -> Iterator[None]:
    """Within the context these layers neither round nor clip their inputs and weights; learnt clips of inputs stay."""
    kept = [(layer, layer._fake_quant_weight, layer._fake_quant_input) for layer in layers]
    for layer, _, _ in kept:
        layer._fake_quant_weight = layer._fake_quant_input = nn.Identity()
    try:
        yield
    finally:
        for layer, weight, activation in kept:
            layer._fake_quant_weight, layer._fake_quant_input = weight, activation
