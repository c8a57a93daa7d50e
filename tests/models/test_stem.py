"""Networks for images that are not RGB."""

from __future__ import annotations

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
