"""`paddle.nn.BatchNorm`, no relative of `nn.BatchNorm2D`, is replaced by a layer that computes the same."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import importance, statistics
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import FusedNorm
from runner.models import batch_norm
from runner.models.mobilenet_v3 import ActivatedNorm
from runner.training.optimizers import _NORMS


class Old(nn.Layer):
    """Normalisations of the oldest kind: two of maps, of which one is used twice, and one of features."""

    def __init__(self, num_classes=3, act="relu"):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1, bias_attr=False)
        self.bn = nn.BatchNorm(8, act=act, momentum=0.8, epsilon=1e-3)
        self.block = nn.Sequential(nn.Conv2D(8, 8, 1), self.bn, nn.Conv2D(8, 8, 1), nn.BatchNorm(8))
        self.pool, self.flatten = nn.AdaptiveAvgPool2D(1), nn.Flatten()
        self.features = nn.BatchNorm(8, act="hard_swish")
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.block(self.bn(self.conv(x)))
        return self.fc(self.features(self.flatten(self.pool(x))))


def stepped(network, images):
    """Outputs of a training and an evaluation pass, parameters and averages after it, and gradients."""
    network.train()
    first = network(images)
    first.square().sum().backward()
    network.eval()
    values = {name: value.numpy() for name, value in network.state_dict().items()}
    gradients = {name: one.grad.numpy() for name, one in network.named_parameters() if one.grad is not None}
    return first.numpy(), network(images).numpy(), values, gradients


@pytest.mark.parametrize("act", [None, "relu", "relu6", "hard_swish", "swish", "sigmoid", "tanh"])
@pytest.mark.parametrize("accelerated", [False, True])
def test_it_computes_the_same_under_the_same_names(act, accelerated):
    paddle.seed(0)
    old = Old(act=act)
    new = copy.deepcopy(old)
    batch_norm.convert(new)
    assert not any(type(layer) is nn.BatchNorm for layer in new.sublayers())
    assert new.bn is new.block[1]
    if accelerated:
        accelerate(new, (3, 9, 9))
        assert isinstance(new.bn, FusedNorm)
        assert type(new.features) is ActivatedNorm
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(6, 3, 9, 9)).astype("float32"))
    (first, last, values, gradients), (first_new, last_new, values_new, gradients_new) = (
        stepped(network, images) for network in (old, new)
    )
    np.testing.assert_allclose(first_new, first, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last_new, last, rtol=1e-4, atol=1e-5)
    assert list(values_new) == list(values)
    assert gradients_new.keys() == gradients.keys()
    for name in values:
        np.testing.assert_allclose(values_new[name], values[name], rtol=1e-4, atol=1e-5, err_msg=name)
    # Of what stands before a normalisation some gradients are zero but for rounding.
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    for name in gradients:
        np.testing.assert_allclose(gradients_new[name], gradients[name], rtol=1e-3, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("kind", [{"act": "leaky_relu"}, {"trainable_statistics": True}])
def test_what_has_no_equal_stays(kind):
    network = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm(4, **kind))
    batch_norm.convert(network)
    assert type(network[1]) is nn.BatchNorm


def test_statistics_that_are_fixed_stay_fixed():
    network = nn.Sequential(nn.BatchNorm(3, use_global_stats=True))
    network[0]._mean.set_value(np.array([1, 2, 3], "float32"))
    batch_norm.convert(network)
    network.train()
    images = paddle.ones([2, 3, 2, 2])
    np.testing.assert_allclose(network(images).numpy()[0, :, 0, 0], [0, -1, -2], rtol=1e-4)
    assert network[0]._mean.numpy().tolist() == [1, 2, 3]


def test_pruning_decay_and_processes_know_it():
    network = models.build(cfg.CustomModel(target="tests.models.test_batch_norm:Old"), 5)
    assert set(statistics.normalisations(network)) == {"bn", "block.3", "features"}
    assert all(isinstance(layer, _NORMS) for name, layer in network.named_sublayers() if name in ("bn", "features"))
    assert {"bn.weight", "block.3.weight"} <= importance.scales(network)
