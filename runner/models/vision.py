"""The classification networks of `paddle.vision.models`, by name."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn
from paddle.vision import models

from ..errors import ConfigError

AUXILIARY = [f"{layer}{number}" for number in (1, 2) for layer in ("_pool_o", "_conv_o", "_fc_o", "_drop_o", "_out")]


class GoogLeNet(models.GoogLeNet):
    """Paddle's GoogLeNet without the two auxiliary classifiers, which a single loss would leave untrained.

    Images [N, 3, H, W] give logits [N, classes]; the other parameters keep their names. Szegedy et al., CVPR 2015.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in AUXILIARY:
            if hasattr(self, name):
                setattr(self, name, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        logits, _, _ = models.GoogLeNet.forward(self, images)
        return logits


def build(architecture: str, num_classes: int, kwargs: dict[str, Any]) -> nn.Layer:
    """The network `paddle.vision.models.<architecture>(num_classes=…, **kwargs)`, its weights drawn as Paddle does.

    Images [N, 3, H, W] float32 give logits [N, num_classes]; `check_input` finds out which H and W fit. Note that
    Paddle's mobilenet_v3 has BatchNorm momentum 0.99 and epsilon 1e-3: in short runs its running statistics lag and
    evaluation is at chance; `model=mobilenet_v3_large_x1_0` has 0.9 and 1e-5. Errors: ConfigError for an argument that
    Paddle does not have, and for `pretrained`, which would download.
    """
    refuse(kwargs, ("num_classes",))
    create = GoogLeNet if architecture == "googlenet" else getattr(models, architecture)
    arguments = {name: value for name, value in kwargs.items() if name != "pretrained"}
    try:
        return create(num_classes=num_classes, **arguments)
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"model.kwargs={kwargs} does not suit {architecture}: {error}") from error


def refuse(kwargs: dict[str, Any], own: tuple[str, ...]) -> None:
    """Errors: ConfigError for pretrained weights, and for arguments that other keys decide."""
    if kwargs.get("pretrained"):
        raise ConfigError("model.kwargs.pretrained=true is model.weights=imagenet here, or a file: model.weights=FILE")
    for name in own:
        if name in kwargs:
            instead = "the data tells the number of classes" if "num" in name else "it is data.image_size"
            raise ConfigError(f"model.kwargs.{name}: {instead}. Remove it.")
