"""The latency of a network that is still trained, by the file that an export would write."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from runner.deploy import network_latency


def test_what_an_export_computes_otherwise_is_measured_too_and_the_network_stays():
    paddle.seed(0)
    layers = [nn.Conv2D(3, 8, 3), nn.Softplus(2.0), nn.CELU(0.7), nn.AdaptiveAvgPool2D(3), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(72, 4))
    network.train()
    classes = [type(layer) for layer in network]
    images = paddle.randn([2, 3, 12, 12])
    engine = network_latency.engine(network, (3, 12, 12), threads=1)
    np.testing.assert_allclose(engine(images.numpy()), network(images).numpy(), atol=1e-5)
    assert [type(layer) for layer in network] == classes
    assert network.training
    assert network_latency.medians([engine], (3, 12, 12), 0.01)[0] > 0
