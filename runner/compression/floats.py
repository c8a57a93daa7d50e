"""Layers of a quantized network in floats: as they were before post-training quantization replaced their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
from paddle import Tensor, nn

from . import side_by_side, slim


class Floats:
    """Puts layers of a fake-quantized network in floats for a while.

    In floats a layer neither rounds nor clips its input and weight; a learnt clip (PACT) stays, since it was trained.
    AdaRound replaces float weights by rounded ones, and bias correction moves biases and the running means behind a
    layer. After these, the float network that quantization began with has what a layer in floats computes with.
    """

    def __init__(self, network: nn.Layer, reference: nn.Layer | None = None, images: Tensor | None = None) -> None:
        """`reference`: the float network, None if the network still has its weights, biases and normalisations.

        images: float32 [n, C, H, W] that the reference takes, to find the normalisation behind each layer.
        """
        self.layers = slim.fake_quantized(network)
        #: Layer → tensors of the network that quantization has changed, each with its value in the float network.
        self.replaced: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.layers}
        if reference is None:
            return
        assert images is not None
        own, float_layers = network.state_dict(), dict(reference.named_sublayers())
        names = {id(layer): name for name, layer in float_layers.items()}
        for name in self.layers:
            norm = side_by_side.norm_behind(reference, float_layers[name], images[:1])
            for layer in filter(None, (float_layers[name], norm)):
                for key, value in layer.state_dict().items():
                    tensor = own[f"{names[id(layer)]}.{key}"]
                    if not np.array_equal(tensor.numpy(), value.numpy()):
                        self.replaced[name].append((tensor, value))

    @contextlib.contextmanager
    def within(self, names: Iterable[str]) -> Iterator[None]:
        """Within the context these layers compute in floats; afterwards all is as before."""
        chosen = [*names]
        kept = [(tensor, tensor.clone(), value) for name in chosen for tensor, value in self.replaced[name]]
        with slim.in_float(self.layers[name] for name in chosen):
            try:
                for tensor, _, value in kept:
                    tensor.set_value(value)
                yield
            finally:
                for tensor, before, _ in kept:
                    tensor.set_value(before)
