"""Post-training quantization: ranges measured on a trained network."""

from __future__ import annotations

from collections.abc import Iterable

from paddle import Tensor, nn

from .. import config as cfg
from . import qat, ranges, slim


def quantize_and_calibrate(network: nn.Layer, settings: cfg.CalibratedQuantization, images: Iterable[Tensor]) -> None:
    """Simulate integers in every chosen layer, in place, with ranges that suit the activations of some images.

    images: batches, each float32 [n, 3, S, S]. Errors: ConfigError for patterns that match nothing, and where no layer
    can be quantized.
    """
    names = ranges.quantizable(network, settings)
    measured = ranges.measure(network, names, images, settings.activation_bits, settings.algorithm, settings.percentile)
    qat.quantize(network, settings)
    for name, layer in slim.fake_quantized(network).items():
        slim.set_range(layer, measured[name])
