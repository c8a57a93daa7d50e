"""Networks: images [N, C, H, W] float32 to logits [N, classes]."""

from __future__ import annotations

from paddle import nn

from .. import config as cfg
from ..config.targets import load_target, wrong_result
from . import batch_norm, paddleclas, stem, vision
from .cost import macs
from .efficientnet_lite import EfficientNetLite
from .freezing import Freezing, Frozen
from .input_check import check_input
from .mobilenet_v3 import Activation, MobileNetV3
from .networks import Networks, Output
from .ops import custom_relu
from .resnet import ResNet
from .siamese import Siamese

__all__ = [
    "EfficientNetLite",
    "Freezing",
    "Frozen",
    "MobileNetV3",
    "Networks",
    "Output",
    "Siamese",
    "build",
    "check_input",
    "macs",
]


def build(config: cfg.Model, num_classes: int, channels: int = 3) -> nn.Layer:
    """The network that the config chooses, with initial weights drawn from `paddle.seed`.

    Its first layers are adapted to the number of channels, and to small images, except for a user-defined network's.
    Normalisations of Paddle's oldest kind are replaced by equal ones in any network.
    """
    network = _build(config, num_classes)
    batch_norm.convert(network)
    if isinstance(config, cfg.CustomModel):
        return network
    if config.stem is cfg.Stem.small:
        stem.for_small_images(network)
    if channels != 3:
        stem.adapt(network, channels)
    return network


def _build(config: cfg.Model, num_classes: int) -> nn.Layer:
    match config:
        case cfg.Siamese():
            return Siamese(config.size, config.scale, num_classes, config.dropout, _relu(config))
        case cfg.MobileNetV3():
            return MobileNetV3(config.size, config.scale, num_classes, config.dropout, _relu(config))
        case cfg.ResNet(depth=depth, scale=scale):
            return ResNet(depth, scale, num_classes)
        case cfg.EfficientNetLite():
            return EfficientNetLite(config.version, num_classes, config.dropout, config.drop_connect)
        case cfg.Vision(architecture=architecture, kwargs=kwargs):
            return vision.build(architecture, num_classes, kwargs)
        case cfg.PaddleClas(architecture=architecture, image_size=size, kwargs=kwargs):
            height, width = size if isinstance(size, list) else (size, size)
            return paddleclas.build(architecture, num_classes, (height, width), kwargs)
        case cfg.CustomModel(target=target, kwargs=kwargs):
            network = load_target(target)(num_classes=num_classes, **kwargs)
            if not isinstance(network, nn.Layer):
                raise wrong_result(f"model.target={target}", network, "a paddle.nn.Layer")
            return network
    raise AssertionError(config)


def _relu(config: cfg.MobileNetV3) -> Activation | None:
    return custom_relu if config.custom_relu else None
