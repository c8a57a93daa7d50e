import paddle
import pytest
from paddle import nn

from runner import config
from runner.errors import ConfigError
from runner.models import MobileNetV3, Siamese, build
from runner.models.ops import custom_relu


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (config.MobileNetV3(size=config.Size.small, scale=0.35), MobileNetV3),
        (config.Siamese(size=config.Size.small, scale=0.35), Siamese),
        (config.Vision(architecture="resnet18"), paddle.vision.models.ResNet),
        (config.CustomModel(target="paddle.vision.models:LeNet"), paddle.vision.models.LeNet),
    ],
)
def test_config_decides_the_kind_of_network(model, kind):
    assert type(build(model, 10)) is kind


def test_custom_network_gets_classes_and_arguments():
    network = build(config.CustomModel(target="paddle.vision.models:MobileNetV1", kwargs={"scale": 0.25}), 3)
    assert network(paddle.zeros([1, 3, 32, 32])).shape == [1, 3]


def test_custom_target_that_is_no_network_is_refused():
    with pytest.raises(ConfigError, match=r"model\.target=builtins:dict.*paddle\.nn\.Layer"):
        build(config.CustomModel(target="builtins:dict"), 3)


def test_custom_relu_reaches_the_blocks():
    network = build(config.MobileNetV3(size=config.Size.small, scale=0.35, custom_relu=True), 3)
    assert network.conv3.expand_conv.bn.activation is custom_relu
    assert network.conv2.mid_se.relu is custom_relu
    assert network.conv12.expand_conv.bn.activation is nn.functional.hardswish
