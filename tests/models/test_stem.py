"""Networks for images that are not RGB."""

from __future__ import annotations

import dataclasses

import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.errors import ConfigError
from runner.models import stem

SMALL = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)
MODELS = [
    SMALL,
    cfg.Siamese(size=cfg.Size.small, scale=0.35),
    cfg.Vision(architecture="resnet18"),
    cfg.Vision(architecture="squeezenet1_0"),
]


@pytest.mark.parametrize("model", MODELS, ids=cfg.model_name)
@pytest.mark.parametrize("channels", [1, 5])
def test_the_first_convolution_follows_the_channels_and_all_else_stays(model, channels):
    network, usual = models.build(model, 10, channels), models.build(model, 10)
    network.eval()
    assert network(paddle.zeros([2, channels, 64, 48])).shape == [2, 10]
    shapes, others = ({name: value.shape for name, value in net.state_dict().items()} for net in (network, usual))
    changed = {name for name in shapes if shapes[name] != others[name]}
    assert list(shapes) == list(others)
    assert changed
    assert all(shapes[name][1] == channels and others[name][1] == 3 for name in changed)


def test_weights_of_another_stem_have_the_deviation_of_he():
    network = models.build(cfg.Vision(architecture="resnet18"), 10, 1)
    assert float(network.conv1.weight.std()) == pytest.approx((2 / 49) ** 0.5, rel=0.05)


def test_a_network_without_such_a_convolution_is_refused():
    with pytest.raises(ConfigError, match="data.channels=1: Linear"):
        stem.adapt(nn.Linear(3, 4), 1)


@pytest.mark.parametrize(
    ("model", "larger"),
    [(SMALL, 2), (cfg.Vision(architecture="resnet18"), 4), (cfg.Vision(architecture="shufflenet_v2_x0_25"), 4)],
    ids=lambda value: cfg.model_name(value) if isinstance(value, cfg.Model) else str(value),
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_stem_for_small_images_keeps_their_size(model, larger, channels):
    usual, network = (
        models.build(model, 10),
        models.build(dataclasses.replace(model, stem=cfg.Stem.small), 10, channels),
    )

    def size(net, channels):
        maps = []
        pooling = next(layer for layer in net.sublayers() if isinstance(layer, nn.AdaptiveAvgPool2D))
        handle = pooling.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].shape))
        net.eval()
        net(paddle.zeros([2, channels, 64, 64]))
        handle.remove()
        return maps[0][-1]

    assert size(network, channels) == larger * size(usual, 3)
    assert list(network.state_dict()) == list(usual.state_dict())


def test_networks_with_two_trunks_get_two_such_stems():
    network = models.build(cfg.Siamese(size=cfg.Size.small, scale=0.35, stem=cfg.Stem.small), 10)
    stems = [layer for layer in network.sublayers() if isinstance(layer, nn.Conv2D) and layer._in_channels == 3]
    assert [layer._stride for layer in stems] == [[1, 1]] * 2


def test_nothing_to_change_is_said():
    with pytest.raises(ConfigError, match="model.stem=small: the first convolution of VGG"):
        models.build(cfg.Vision(architecture="vgg13", stem=cfg.Stem.small), 10)
