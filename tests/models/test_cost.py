"""MACs and parameters."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import qat, slim
from runner.models import cost


class Known(nn.Layer):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2D(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2D(8, 8, 3, padding=1, groups=8, bias_attr=False)
        self.bn = nn.BatchNorm2D(8)
        self.out = nn.Linear(8, 5)

    def forward(self, images):
        return self.out(self.bn(self.depthwise(self.first(images))).mean([2, 3]))


def test_macs_are_those_of_a_network_counted_by_hand():
    assert cost.macs(Known(), (3, 4, 4)) == 16 * 8 * 27 + 16 * 8 * 9 + 8 * 5


def test_parameters_are_those_counted_by_hand():
    assert slim.parameters(Known()) == (8 * 27 + 8) + 8 * 9 + 16 + (8 * 5 + 5)


def test_frozen_layers_count_as_what_is_deployed():
    network = Known()
    for parameter in network.parameters():
        parameter.stop_gradient = True
    assert slim.parameters(network) == slim.parameters(Known())


def test_quantization_does_not_change_the_macs():
    paddle.seed(0)
    network = models.build(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 10)
    before = cost.macs(network, (3, 32, 32))
    qat.quantize(network, cfg.TrainedQuantization())
    assert cost.macs(network, (3, 32, 32)) == before


def test_counting_changes_nothing():
    network = Known()
    network.train()
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    cost.macs(network, (3, 4, 4))
    assert network.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert not network.out._forward_post_hooks
