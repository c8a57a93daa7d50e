"""The float twin of a trained network: the same function in plain layers, without fake quantization."""

from __future__ import annotations

from dataclasses import replace

import paddle
from paddle import nn

from .. import compression, models
from .. import config as cfg
from ..compression import qat, slim
from ..training import seeding
from . import convertible
from .graph.quantized_weight import QuantizedWeight


def build(network: nn.Layer, model: cfg.Model, classes: int, channels: int) -> tuple[nn.Layer, list[QuantizedWeight]]:
    """A plain network in eval mode with the trained one's channels and weights, and its quantization parameters.

    Weights of quantized layers are already on their integer grid; activation ranges are only in the returned list.
    `model`: the config that the trained network was built from.
    """
    twin = _fresh(model, classes, channels)
    state = {name: value for name, value in network.state_dict().items() if not slim.is_quantization(name)}
    compression.shapes.shrink(twin, {name: value.shape for name, value in state.items()}, "The trained network")
    own = twin.state_dict()
    for name, value in state.items():
        own[name].set_value(value.astype(own[name].dtype))
    alphas = qat.alphas(network)
    quantized = [
        _on_its_grid(layer, own[f"{name}.weight"], alphas.get(name))
        for name, layer in slim.fake_quantized(network).items()
    ]
    twin.eval()
    return twin, quantized


def is_pruned(twin: nn.Layer, model: cfg.Model, classes: int, channels: int) -> bool:
    """Whether a twin has fewer channels than its architecture, whichever run pruned them."""
    whole = _fresh(model, classes, channels).state_dict()
    return any(whole[name].shape != value.shape for name, value in twin.state_dict().items())


def _fresh(model: cfg.Model, classes: int, channels: int) -> nn.Layer:
    """The network as it is built; random generators are unaffected."""
    random_state = seeding.state()
    network = models.build(_without_operators(model), classes, channels)
    seeding.restore(random_state)
    convertible.substitute(network)
    return network


class Clipped(nn.Layer):
    """A layer after the clip of its input that quantization has taught it."""

    def __init__(self, layer: nn.Layer, bound: float) -> None:
        super().__init__()
        self.layer, self.bound = layer, bound

    def forward(self, activation: paddle.Tensor) -> paddle.Tensor:
        return self.layer(activation.clip(-self.bound, self.bound))


def with_clips(twin: nn.Layer, quantized: list[QuantizedWeight]) -> nn.Layer:
    """The twin with the clips of fake quantization before its layers, in place.

    Integers clip by their range, which floats do not have: each input is clipped to PACT's α or to the range of the
    layer, whichever is smaller.
    """
    bounds = {weight.name: weight.bound for weight in quantized}
    for parent in twin.sublayers(include_self=True):
        # By the names that the parent has for them, which may contain dots.
        for name, layer in list(parent._sub_layers.items()):
            bound = bounds.get(layer.weight.name) if isinstance(layer, (nn.Conv2D, nn.Linear)) else None
            if bound is not None:
                parent._sub_layers[name] = Clipped(layer, bound)
    twin.eval()
    return twin


def _without_operators(model: cfg.Model) -> cfg.Model:
    # The engines' own ReLU computes the same.
    return replace(model, custom_relu=False) if isinstance(model, cfg.MobileNetV3) else model


def _on_its_grid(layer: slim.FakeQuantized, weight: paddle.Tensor, alpha: paddle.Tensor | None) -> QuantizedWeight:
    """Round the twin's weight as the layer does."""
    weight.set_value(slim.rounded_weight(layer))
    weight_bits, activation_bits = slim.bits(layer)
    return QuantizedWeight(
        name=weight.name,
        weight_scale=slim.weight_ranges(layer),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_scale=slim.activation_range(layer),
        clip=None if alpha is None else abs(float(alpha)),
    )
