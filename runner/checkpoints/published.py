"""How the published weights of PaddleClas were trained, by the names of its networks."""

from __future__ import annotations

from ..models.names import MEAN, STD

_HALVES = (0.5,) * 3
#: Beginning of an architecture's name → the mean and deviation by which its images were normalised, where they are not
#: ImageNet's. From the files of `ppcls/configs` in PaddleClas, one or more of each family.
_OTHERWISE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "EfficientNetV2_": ((128 / 255,) * 3, (128 / 255,) * 3),
    "MobileViT": ((0.0,) * 3, (1.0,) * 3),
    "TNT_": (_HALVES, _HALVES),
    "VAN_": (_HALVES, _HALVES),
    "ViT_": (_HALVES, _HALVES),
}
#: Beginnings of the names of those whose images were normalised by ImageNet's statistics.
_IMAGENET = (
    "AlexNet", "CSPDarkNet", "CSWinTransformer_", "ConvNeXt_", "CvT_", "DLA", "DPN", "DSNet_", "DarkNet53", "DeiT_",
    "DenseNet", "ESNet_", "EfficientNetB", "FasterNet_", "GhostNet_", "GoogLeNet", "HRNet_", "HarDNet", "Inception",
    "LeViT_", "MicroNet_", "MixNet_", "MobileNeXt_", "MobileNetV", "NextViT_", "PPHGNet", "PPLCNet", "PVT_V2_",
    "PeleeNet", "ReXNet_", "RedNet", "RegNetX_", "RepVGG_", "Res2Net", "ResNeSt", "ResNeXt", "ResNet", "SENet",
    "SE_ResNe", "ShuffleNetV2_", "SqueezeNet", "StarNet_", "SwinTransformer", "TinyNet_", "UniFormer_", "VGG",
    "Xception", "alt_gvt_", "pcpvt_",
)  # fmt: skip


def normalisation(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The mean and deviation that the weights of a network were trained with; None if they are not known."""
    for start, numbers in _OTHERWISE.items():
        if architecture.startswith(start):
            return numbers
    if architecture.startswith(_IMAGENET):
        return MEAN, STD
    return None
