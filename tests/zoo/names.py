"""The networks that are tried: small variants of what is current, and the side of the images in pixels."""

from __future__ import annotations

PADDLE = {
    "resnet18": 32, "mobilenet_v1": 32, "mobilenet_v2": 32, "shufflenet_v2_x0_25": 32, "resnext50_32x4d": 32,
    "densenet121": 32, "squeezenet1_1": 64, "googlenet": 64, "wide_resnet50_2": 32, "vgg11": 32,
}  # fmt: skip
#: Those with more than 64 pixels have no smaller size.
PADDLECLAS = {
    "PPLCNet_x0_25": 32, "EfficientNetB0": 32, "DeiT_tiny_patch16_224": 64, "MobileViT_XXS": 64, "GhostNet_x0_5": 32,
    "MobileNetV4_conv_small": 32, "PPHGNetV2_B0": 32, "ConvNeXt_tiny": 32, "PPLCNetV2_small": 32, "StarNet_S1": 32,
    "RepVGG_A0": 32, "FasterNet_T0": 32, "ResNet18_vd": 32, "MobileNetV1_x0_25": 32, "MobileNetV3_small_x0_35": 32,
    "MobileNetV2_x0_25": 32, "SwinTransformer_tiny_patch4_window7_224": 112, "ViT_small_patch16_224": 64,
    "DeiT_tiny_distilled_patch16_224": 64, "GoogLeNet": 64, "SE_ResNet18_vd": 32, "ShuffleNetV2_x0_25": 32,
    "ESNet_x0_25": 32, "MixNet_S": 224, "ReXNet_1_0": 32, "TinyNet_E": 32, "MobileNeXt_x0_35": 32, "RegNetX_200MF": 32,
    "MobileViTV2_x0_5": 64, "PVT_V2_B0": 64, "VAN_B0": 64, "DLA34": 32, "PPHGNet_tiny": 32, "ResNeXt50_32x4d": 32,
    "CSPDarkNet53": 32, "PeleeNet": 64, "MicroNet_M0": 64, "EfficientNetV2_S": 64, "HarDNet39_ds": 64,
    "Res2Net50_26w_4s": 32, "ResNet50_vd": 32, "LeViT_128S": 224, "MobileNetV4_hybrid_medium": 64, "CvT_13_224": 64,
    "ResNeSt50_fast_1s1x64d": 64, "HRNet_W18_C": 64,
}  # fmt: skip
NAMES = PADDLE | {f"paddleclas/{name}": size for name, size in PADDLECLAS.items()}
