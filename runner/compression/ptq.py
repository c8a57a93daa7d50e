"""Post-training quantization: ranges measured on a trained network."""

from __future__ import annotations

from collections.abc import Iterable

from paddle import Tensor, nn

from .. import config as cfg
from . import adaround, bias_correction, bits, qat, ranges, slim

#: Training images on which single layers are compared with those of the float network.
COMPARED_IMAGES = 256


def quantize_and_calibrate(
    network: nn.Layer,
    settings: cfg.CalibratedQuantization,
    images: Iterable[Tensor],
    reference: nn.Layer | None = None,
    seed: int = 0,
    report: bits.Report = lambda _text: None,
) -> None:
    """Fake-quantize every chosen layer, in place, with ranges calibrated on some images.

    images: batches, each float32 [n, C, H, W], which can be iterated several times. `reference` is a float copy of the
    network, which AdaRound and bias correction compare with; layers must then compute in [N, C, H, W]. Errors:
    ConfigError if no layer can be quantized.
    """
    names, batches = ranges.quantizable(network, settings), ranges.calibration(images, settings)
    weight_bits = bits.chosen(network, settings, names, images, report)
    measured = ranges.measure(
        network, names, batches, settings.activation_bits, settings.algorithm, settings.percentile
    )
    qat.quantize(network, settings)
    qat.set_weights(network, settings, weight_bits)
    for name, layer in slim.fake_quantized(network).items():
        slim.set_range(layer, measured[name])
    some = ranges.first(images, COMPARED_IMAGES) if settings.compares else []
    if settings.adaround.enabled:
        assert reference is not None
        adaround.round_weights(network, reference, settings.adaround, some, seed, report)
    if settings.bias_correction:
        assert reference is not None
        bias_correction.correct(network, reference, some, report)
