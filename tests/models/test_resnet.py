"""Thin ResNets."""

from __future__ import annotations

import paddle
import pytest

from runner import config as cfg
from runner import models


@pytest.mark.parametrize("depth", cfg.DEPTHS)
def test_layers_and_parameters_are_those_of_the_paper(depth):
    network = models.build(cfg.ResNet(depth=depth, scale=1.0), 1000)
    weights = [value for name, value in network.named_parameters() if value.ndim > 1 and "shortcut" not in name]
    assert len(weights) == depth
    if depth > 10:
        usual = models.build(cfg.Vision(architecture=f"resnet{depth}"), 1000)

        def numbers(net):
            return sum(value.size for value in net.parameters())

        assert numbers(network) == numbers(usual)


def test_logits_are_those_of_paddles_network_with_the_same_weights():
    network, usual = models.build(cfg.ResNet(depth=18, scale=1.0), 10), models.build(cfg.Vision(), 10)
    # In the order of construction, but for the shortcut, which Paddle's block has first of all or last.
    others = [value for name, value in usual.state_dict().items() if "downsample" not in name]
    shortcuts = [value for name, value in usual.state_dict().items() if "downsample" in name]
    for name, value in network.state_dict().items():
        value.set_value((shortcuts if "shortcut" in name else others).pop(0))
    assert not others
    assert not shortcuts
    network.eval()
    usual.eval()
    images = paddle.randn([2, 3, 64, 64])
    assert paddle.allclose(network(images), usual(images), rtol=1e-4, atol=1e-4)
