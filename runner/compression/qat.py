"""Fake quantization of layers, for QAT, LSQ and post-training quantization; PACT's learnt clip of activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn.initializer import Constant

from .. import config as cfg
from . import bits as weight_bits
from . import ranges, slim
from .rounding import AbsMaxRounding, Rounding

#: First α of a network with random weights.
FAR_OUT = 20.0


class Pact(nn.Layer):
    """y = min(max(x, -|α|), |α|) with a learnt α (Choi et al., PACT, 2018), for activations of both signs.

    α gets the sum of the gradients of the values it clips. Large steps may carry it across zero; its magnitude counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = self.create_parameter([1], dtype="float32", default_initializer=Constant(20.0))

    def forward(self, activation: Tensor) -> Tensor:
        bound = F.relu(self.alpha) + F.relu(-self.alpha)
        return activation - F.relu(activation - bound) + F.relu(-bound - activation)


def quantize(network: nn.Layer, settings: cfg.Quantization) -> None:
    """Fake-quantize every chosen layer, in place; ranges, α and bits by sensitivity are not set yet.

    Errors: ConfigError if no layer can be quantized.
    """
    assert not slim.fake_quantized(network), "PaddleSlim would wrap a quantized layer once more without a word"
    clip = Pact if isinstance(settings, cfg.TrainedQuantization) and settings.pact.enabled else None
    names = ranges.quantizable(network, settings)
    slim.fake_quantize(network, settings, names, clip)
    bits = weight_bits.by_name(settings, names)
    for name, layer in slim.fake_quantized(network).items():
        _choose_rounding(layer, settings, bits[name])


def _choose_rounding(layer: slim.FakeQuantized, settings: cfg.Quantization, bits: int) -> None:
    """Replace Paddle's rounding if ranges are stored or learnt, or bits are part of the state: it supports neither."""
    axis = slim.channel_axis(layer)
    channels = 1 if axis is None else layer.weight.shape[axis]
    match settings:
        case cfg.LearntQuantization(activation_bits=activation_bits):
            weight = Rounding(bits, channels, axis, learnt=True)
            weight.sharing.set_value(paddle.to_tensor([layer.weight.size // channels], "int64"))
            slim.set_rounding(layer, weight, Rounding(activation_bits, learnt=True))
        case cfg.CalibratedQuantization() if settings.keeps_weight_ranges:
            slim.set_rounding(layer, Rounding(bits, channels, axis))
        case cfg.Quantization(average_weight_bits=float()):
            slim.set_rounding(layer, AbsMaxRounding(bits, axis))
        case _:
            slim.set_weight_bits(layer, bits)


def set_weights(network: nn.Layer, settings: cfg.Quantization, bits: Mapping[str, int]) -> None:
    """Set the bits of a quantized network's weights, and their ranges."""
    for name, layer in slim.fake_quantized(network).items():
        slim.set_weight_bits(layer, bits[name])
        magnitudes = ranges.of_weight(layer.weight.numpy(), slim.channel_axis(layer), bits[name], settings)
        slim.set_weight_range(layer, magnitudes)


def quantize_and_calibrate(
    network: nn.Layer,
    settings: cfg.TrainedQuantization,
    images: Iterable[Tensor],
    trained: bool,
    report: weight_bits.Report = lambda _text: None,
) -> None:
    """`quantize`, with ranges and α initialized from the activations of the initial weights on some images.

    images: batches, each float32 [n, 3, S, S], which can be iterated several times. Otherwise an evaluation before the
    first step would clip everything. Activations of untrained weights say nothing about later ones, so without
    `trained` α starts large.
    """
    names = ranges.quantizable(network, settings)
    bits = weight_bits.chosen(network, settings, names, images, report)
    measured = ranges.measure(network, names, ranges.calibration(images, settings), settings.activation_bits)
    quantize(network, settings)
    set_weights(network, settings, bits)
    for name, layer in slim.fake_quantized(network).items():
        slim.set_range(layer, measured[name])
    for name, alpha in alphas(network).items():
        value = settings.pact.initial_alpha or (measured[name] if trained else FAR_OUT)
        alpha.set_value(paddle.full([1], value, "float32"))


def alphas(network: nn.Layer) -> dict[str, Tensor]:
    """Layer → its α [1]; empty without PACT."""
    clips = {name: slim.clip(layer) for name, layer in slim.fake_quantized(network).items()}
    return {name: clip.alpha for name, clip in clips.items() if isinstance(clip, Pact)}
