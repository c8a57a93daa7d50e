"""Layers are followed in the order in which they compute, in every place that they have."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import adaround, ptq, side_by_side, slim

METHODS = {
    "bias correction": {"bias_correction": True},
    "AdaRound": {"adaround": cfg.AdaRound(enabled=True, iterations=20)},
}


class Network(nn.Layer):
    """Two convolutions and a head; `last_first` defines them from the last one on."""

    def __init__(self, last_first=False):
        super().__init__()
        paddle.seed(0)
        layers = {"first": nn.Conv2D(3, 8, 3), "second": nn.Conv2D(8, 8, 3), "head": nn.Linear(8, 4)}
        for name in sorted(layers, reverse=not last_first, key=["head", "second", "first"].index):
            self.add_sublayer(name, layers[name])

    def forward(self, images):
        return self.head(nn.functional.relu(self.second(nn.functional.relu(self.first(images)))).mean([2, 3]))


def some_images(seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(0.5, size=(16, 3, 12, 12)).astype(np.float32))


def quantized(network, reference, **own):
    settings = cfg.CalibratedQuantization(weight_bits=3, **own)
    ptq.quantize_and_calibrate(network, settings, [some_images()], reference)
    network.eval()
    return network


def test_layers_are_in_the_order_of_their_calls():
    for last_first in (False, True):
        network = Network(last_first)
        layers = {name: layer for name, layer in network.named_sublayers() if name != "second"}
        assert side_by_side.in_order(network, layers, some_images()) == ["first", "head"]


@pytest.mark.parametrize("method", METHODS)
def test_layers_are_corrected_in_the_order_in_which_they_compute(method):
    expected, own = (quantized(Network(last_first), Network(), **METHODS[method]) for last_first in (False, True))
    assert list(own._sub_layers) != list(expected._sub_layers)
    np.testing.assert_array_equal(own(some_images(1)).numpy(), expected(some_images(1)).numpy())


@pytest.mark.parametrize("compression", [cfg.CalibratedQuantization(), cfg.TrainedQuantization()])
def test_a_layer_that_two_have_is_quantized_in_both(compression):
    paddle.seed(0)
    conv = nn.Conv2D(3, 3, 3, padding=1)
    network = nn.Sequential(nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv, nn.ReLU()), conv)
    slim.fake_quantize(network, compression, ["0.0"])
    assert isinstance(network[0][0], slim.QuantizedConv2D)
    assert network[0][0] is network[1][0] is network[2]
    assert len(slim.fake_quantized(network)) == 1


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 2, [1, 2], "SAME", "VALID"])
def test_a_convolution_is_a_product_of_what_it_unfolds(padding, stride, dilation, groups):
    layer = nn.Conv2D(4, 6, 3, stride, padding, dilation, groups)
    images = paddle.randn([2, 4, 12, 12])
    columns = adaround._unfolded(layer, images)
    outputs = [
        paddle.matmul(weight.flatten(1), part)
        for weight, part in zip(layer.weight.chunk(groups), columns.chunk(groups, 1), strict=True)
    ]
    expected = layer(images) - layer.bias.reshape([1, -1, 1, 1])
    np.testing.assert_allclose(paddle.concat(outputs, 1).numpy(), expected.flatten(2).numpy(), atol=1e-4)
