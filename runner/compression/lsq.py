"""Learned Step Size Quantization (Esser et al., ICLR 2020): training learns the ranges of weights and activations."""

from __future__ import annotations

from collections.abc import Iterable

import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..models.input_check import evaluating
from . import bits as weight_bits
from . import qat, ranges, slim
from .rounding import Rounding


def quantize_and_calibrate(
    network: nn.Layer,
    settings: cfg.LearntQuantization,
    images: Iterable[Tensor],
    trained: bool,
    report: weight_bits.Report = lambda _text: None,
) -> None:
    """Fake-quantize every chosen layer, in place; ranges start at the least mean squared error.

    images: batches, each float32 [n, C, H, W], which can be iterated several times. (The paper starts the step at
    2·E|v| / √Q, which only suits few bits: with 8 it is three times too wide.) Without `trained` weights activations
    are normalised by each batch, as training will: with running averages that start at 0 and 1 they would shrink with
    every layer, their ranges would clip nearly everything, and the first gradients of ranges would be a billion times
    too large. Errors: ConfigError if no layer can be quantized.
    """
    names = ranges.quantizable(network, settings)
    bits = weight_bits.chosen(network, settings, names, images, report)
    batches = ranges.calibration(images, settings)
    measured = ranges.measure(
        network, names, batches, settings.activation_bits, cfg.Algorithm.mse, batch_statistics=not trained
    )
    values = _values_of_an_image(network, names, ranges.first(images, 1)[0])
    qat.quantize(network, settings)
    qat.set_weights(network, settings, bits)
    for name, layer in slim.fake_quantized(network).items():
        slim.set_range(layer, measured[name])
        layer._fake_quant_input.sharing.set_value(paddle.to_tensor([values[name]], "int64"))


def learnt(network: nn.Layer) -> dict[str, Tensor]:
    """Name → range of everything whose range is learnt; empty without any."""
    return {
        name: layer.range
        for name, layer in network.named_sublayers()
        if isinstance(layer, Rounding) and layer.is_learnt
    }


def _values_of_an_image(network: nn.Layer, names: list[str], images: Tensor) -> dict[str, int]:
    """Layer → number of values of its input per image [n, C, H, W]."""
    layers, values = dict(network.named_sublayers()), {}

    def count(name: str, inputs: tuple[Tensor, ...]) -> None:
        values[name] = max(1, inputs[0].size // len(images))

    hooks = [
        layers[name].register_forward_pre_hook(lambda _layer, inputs, own=name: count(own, inputs)) for name in names
    ]
    with evaluating(network, hooks):
        network(images)
    return values
