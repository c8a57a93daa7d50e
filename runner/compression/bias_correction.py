"""Corrects the mean of each channel after quantization (empirical bias correction, Nagel et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from . import side_by_side, slim
from .bits import Report


def correct(network: nn.Layer, reference: nn.Layer, images: Sequence[Tensor], report: Report) -> None:
    """Shift the outputs of every quantized layer, in place and layer by layer, to the float network's channel means.

    images: batches, each float32 [n, C, H, W]; layers compute in [N, C, H, W]. A layer without a bias is corrected in
    the running mean of the batch normalisation after it; one without either is unchanged.
    """
    float_layers = dict(reference.named_sublayers())
    left, layers = [], slim.fake_quantized(network)
    for name in side_by_side.in_order(network, layers, images[0][:1]):
        layer = layers[name]
        norm = side_by_side.norm_behind(network, layer, images[0][:1]) if layer.bias is None else None
        if layer.bias is None and norm is None:
            left.append(name)
            continue
        shift = _mean(reference, float_layers[name], images) - _mean(network, layer, images)
        with paddle.no_grad():
            if norm is None:
                layer.bias.set_value(layer.bias + shift)
            else:
                norm._mean.set_value(norm._mean - shift)
    if left:
        report(
            f"bias correction: layers without bias and normalisation are not corrected: {len(left)}, such as {left[0]}"
        )


def _mean(network: nn.Layer, layer: nn.Layer, images: Sequence[Tensor]) -> Tensor:
    """Mean of each channel of a layer's output: float32 [channels]."""
    total, count = paddle.zeros([1], "float64"), 0
    axis = -1 if layer.weight.ndim == 2 else 1
    for batch in images:
        output = side_by_side.output(network, layer, batch)
        others = [place for place in range(output.ndim) if place != axis % output.ndim]
        total = total + output.astype("float64").sum(others)
        count += output.size // output.shape[axis]
    return (total / count).astype("float32")
