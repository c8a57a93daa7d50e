"""Quantization noise: the difference of a quantized network from the float one, layer by layer."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ..compression import slim, snr
from ..kernels.layers import stock
from ..models.input_check import evaluating
from ..training.evaluation import untouched
from .quantization import Quantization, QuantizedLayer

#: Batch size; the outputs of all layers are kept for a batch.
BATCH = 16


def measure(name: str, network: nn.Layer, reference: nn.Layer, images: np.ndarray) -> Quantization:
    """The quantization noise of each layer; `reference` is the float network that the quantized one was made from.

    images: float32 [n, C, H, W]. Neither network changes.
    """
    layers = slim.fake_quantized(network)
    alone, together = _noise(layers, network, reference, images)
    float_layers = dict(reference.named_sublayers())
    described = []
    for layer_name, layer in layers.items():
        weight = float_layers[layer_name].weight.numpy()
        ranges = np.abs(slim.weight_ranges(layer))
        weight_bits, activation_bits = slim.bits(layer)
        described.append(
            QuantizedLayer(
                name=layer_name,
                kind="Linear" if layer.weight.ndim == 2 else "Conv2D",
                weights=layer.weight.size,
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                weight_range=[float(ranges.min()), float(ranges.max())],
                activation_range=slim.activation_range(layer),
                weight_snr_db=_finite_decibels(snr.powers(weight, slim.rounded_weight(layer).numpy())),
                output_snr_db=_finite_decibels(alone[layer_name]),
                accumulated_snr_db=_finite_decibels(together[layer_name]),
            )
        )
    return Quantization(name, len(images), described)


Sums = dict[str, np.ndarray]


def _noise(
    layers: dict[str, slim.FakeQuantized], network: nn.Layer, reference: nn.Layer, images: np.ndarray
) -> tuple[Sums, Sums]:
    """Layer → [Σy², Σ(y - ŷ)²] of its outputs: on the float network's inputs, and on its own (with accumulated
    noise)."""
    alone: Sums = defaultdict(lambda: np.zeros(2))
    together: Sums = defaultdict(lambda: np.zeros(2))
    expected: dict[str, list[Tensor]] = defaultdict(list)

    def of_float(name: str, layer: nn.Layer, inputs: Any, output: Tensor) -> None:
        expected[name].append(output)
        alone[name] += snr.powers(output.numpy(), layers[name](inputs[0]).numpy())

    def of_integers(name: str, layer: nn.Layer, inputs: Any, output: Tensor) -> None:
        # A siamese network may call a layer once for each branch.
        together[name] += snr.powers(expected[name].pop(0).numpy(), output.numpy())

    with stock(), untouched(network):
        for begin in range(0, len(images), BATCH):
            batch = paddle.to_tensor(images[begin : begin + BATCH])
            with evaluating(reference, _hooks(reference, layers, of_float)):
                reference(batch)
            with evaluating(network, _hooks(network, layers, of_integers)):
                network(batch)
            expected.clear()
    return alone, together


def _hooks(network: nn.Layer, names: Iterable[str], hook: Callable[..., None]) -> list[Any]:
    layers = dict(network.named_sublayers())
    return [layers[name].register_forward_post_hook(functools.partial(hook, name)) for name in names]


def _finite_decibels(powers: np.ndarray) -> float | None:
    """The ratio in dB; None without noise or without a signal."""
    ratio = snr.decibels(*powers)
    return ratio if math.isfinite(ratio) else None
