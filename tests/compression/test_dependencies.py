"""What pruning cuts together: a network without channels computes what it computes with zeros in their place."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import dependencies, shapes
from runner.compression.labels import Labels
from runner.kernels.accelerate import accelerate
from runner.kernels.autotune import autotuning_off
from tests.models.test_paddleclas import needed

#: Network → size of its images.
QUICK = {
    "resnet18": 32, "resnext50_32x4d": 32, "shufflenet_v2_x0_25": 32, "squeezenet1_1": 32, "mobilenet_v1": 32,
    "mobilenet_v2": 32,
}  # fmt: skip
SLOW = {"googlenet": 224, "inception_v3": 160, "resnet50": 32, "alexnet": 224, "densenet121": 32, "vgg11": 32}
MODELS = {
    "mobilenet_v3": cfg.MobileNetV3(size=cfg.Size.small, scale=0.35),
    "siamese": cfg.Siamese(size=cfg.Size.small, scale=0.35),
    "efficientnet_lite": cfg.EfficientNetLite(drop_connect=0.0, dropout=0.0),
}
CASES = [
    *(pytest.param(cfg.Vision(architecture=name), size, id=name) for name, size in QUICK.items()),
    *(pytest.param(model, 32, id=name) for name, model in MODELS.items()),
    *(
        pytest.param(cfg.Vision(architecture=name), size, id=name, marks=pytest.mark.slow)
        for name, size in SLOW.items()
    ),
    *(
        pytest.param(cfg.PaddleClas(architecture=name), 64, id=name, marks=[pytest.mark.slow, needed])
        for name in ("PPLCNet_x0_25", "GhostNet_x0_5", "MobileNetV4_conv_small")
    ),
]


def trained_a_little(model, size):
    """A network whose normalisation has scales, shifts and statistics of many values."""
    paddle.seed(0)
    network = models.build(model, 10)
    random = np.random.default_rng(0)
    for name, value in network.state_dict().items():
        if value.ndim == 1:
            low = 0.5 if name.endswith(("weight", "_variance")) else -0.2
            value.set_value(random.uniform(low, low + 1, value.shape).astype(np.float32))
    accelerate(network, (3, size, size))
    network.eval()
    return network


@pytest.mark.parametrize(("model", "size"), CASES)
def test_without_channels_every_network_computes_what_it_does_with_zeros_in_place_of_their_filters(model, size):
    network, random = trained_a_little(model, size), np.random.default_rng(1)
    with autotuning_off():
        groups = dependencies.find(network, (3, size, size))
        removed = [np.sort(random.permutation(group.units)[: random.integers(group.units)]) for group in groups]
        kept = dependencies.kept(network, groups, removed)
        images, own = paddle.randn([2, 3, size, size]), network.state_dict()
        for name, axes in kept.items():
            # Filters, biases, scales and shifts alone: what reads them sees zeros.
            if 0 in axes and not name.endswith(("_mean", "_variance")) and own[name].ndim in (1, 4):
                gone = np.setdiff1d(np.arange(own[name].shape[0]), axes[0])
                value = own[name].numpy()
                value[gone] = 0
                own[name].set_value(value)
        expected = network(images).numpy()
        shapes.cut(network, kept)
        np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-4 * np.abs(expected).max())
    assert sum(len(lost) for lost in removed) > 0.2 * sum(group.units for group in groups)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "shufflenet_v2_x0_25", "densenet121"])
def test_all_convolutions_of_grouped_shuffled_and_joined_channels_can_lose_some(name):
    network = trained_a_little(cfg.Vision(architecture=name), 32)
    found = {member for group in dependencies.find(network, (3, 32, 32)) for member in group.members}
    assert found == set(shapes.channels(network))


def test_the_layers_of_a_residual_stage_are_one_group():
    network = trained_a_little(cfg.Vision(architecture="resnet18"), 32)
    groups = {group.layers[0]: group for group in dependencies.find(network, (3, 32, 32))}
    assert groups["conv1"].layers == ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    assert groups["layer1.0.conv1"].layers == ["layer1.0.conv1"]


class Joined(nn.Layer):
    """Two convolutions side by side, and one that reads both."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.Conv2D(3, 4, 1), nn.Conv2D(3, 6, 1), nn.Conv2D(10, 8, 1)

    def forward(self, images):
        both = paddle.concat([self.left(images), self.right(images)], axis=1)
        return self.last(both).flatten(1)


def test_what_reads_joined_channels_loses_those_of_each_part():
    left, right = dependencies.find(Joined(), (3, 4, 4))
    assert left.cuts["last.weight", 1].ravel().tolist() == [0, 1, 2, 3]
    assert right.cuts["last.weight", 1].ravel().tolist() == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("old", "new", "together"),
    [
        ([1, 6, 2, 2], [1, 24], [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4),
        ([1, 6, 1, 1], [1, 6], [0, 1, 2, 3, 4, 5]),
        ([1, 6, 2, 2], [1, 2, 3, 2, 2], [0, 1, 2, 0, 1, 2]),
    ],
)
def test_a_reshape_keeps_channels_or_divides_them_into_equal_parts(old, new, together):
    labels = Labels()
    channels = labels.of("weight", 0, 6)
    result = labels.reshaped(channels.reshape(1, 6, 1, 1), old, new).ravel()
    roots = [labels._root(label) for label in result.tolist()]
    first = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    assert [first[root] for root in roots] == together
