"""The siamese network: two MobileNetV3 trunks that see the same image."""

from __future__ import annotations

from paddle import Tensor, nn

from ..config import Size
from .mobilenet_v3 import Activation, Trunk, classify, head_layers


class Siamese(nn.Layer):
    """Two MobileNetV3 trunks with separate weights, whose feature maps are added, and one head.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. The trunks' parameters are named `first.conv1.conv.weight`
    … and `second.conv1.conv.weight` … as MobileNetV3's are, those of the head `last_conv.weight`, `out.weight` and
    `out.bias`. Initial weights are drawn as MobileNetV3's.
    """

    def __init__(
        self, size: Size, scale: float, num_classes: int, dropout: float, relu: Activation | None = None
    ) -> None:
        super().__init__()
        self.first = Trunk(size, scale, relu)
        self.second = Trunk(size, scale, relu)
        self.pool, self.last_conv, self.dropout, self.out = head_layers(self.first.width, num_classes, dropout)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images) + self.second(images)
        return classify(features, self.pool, self.last_conv, self.dropout, self.out)
