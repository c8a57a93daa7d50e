"""Depthwise convolutions as matrix products equal Paddle's own."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from runner import models
from runner.config import MobileNetV3, Vision
from runner.kernels.fallback import DepthwiseConv2D, accelerate


@settings(max_examples=40, deadline=None)
@given(
    st.integers(4, 6), st.integers(2, 9), st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3, 5]),
    st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.booleans(),
)  # fmt: skip
def test_forward_and_gradients_equal_paddles(batch, channels, height, width, kernel, stride, padding, dilation, bias):
    if min(height, width) + 2 * padding < dilation * (kernel - 1) + 1:
        return
    layer = nn.Conv2D(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias_attr=None if bias else False
    )
    images = paddle.randn([batch, channels, height, width])
    results = []
    for make in (lambda: 0, lambda: accelerate(layer)):
        make()
        images.stop_gradient = False
        output = layer(images)
        (output * paddle.cos(paddle.arange(output.size, dtype="float32").reshape(output.shape))).sum().backward()
        results.append([output.numpy(), images.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
        images.clear_grad()
        layer.clear_gradients()
    assert type(layer) is DepthwiseConv2D
    for stock, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, stock, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("model", "count"), [(MobileNetV3(), 15), (Vision(architecture="resnet18"), 0)])
def test_only_depthwise_layers_are_replaced_and_names_stay(model, count):
    network = models.build(model, 10)
    names = list(network.state_dict())
    assert accelerate(network) == count
    assert list(network.state_dict()) == names


def test_weights_of_another_type_use_paddles_kernel():
    layer = nn.Conv2D(8, 8, 3, padding=1, groups=8).to(dtype="float64")
    images = paddle.randn([4, 8, 6, 6], dtype="float64")
    stock = layer(images).numpy()
    accelerate(layer)
    np.testing.assert_array_equal(layer(images).numpy(), stock)


def test_large_maps_use_paddles_kernel():
    layer = nn.Conv2D(8, 8, 3, padding=1, groups=8)
    images = paddle.randn([4, 8, 64, 64])
    stock = layer(images).numpy()
    accelerate(layer)
    np.testing.assert_array_equal(layer(images).numpy(), stock)
