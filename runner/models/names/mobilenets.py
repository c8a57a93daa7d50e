"""Parameter names of MobileNet V1, V2 and V3 in other frameworks."""

from .mapping import Names

V1 = (
    Names(
        "PaddleClas",
        (
            (r"^conv\.conv\.", "conv1.0."),
            (r"^conv\.bn\.", "conv1.1."),
            (r"^blocks\.0\.", "conv2_1."),
            (r"^blocks\.1\.", "conv2_2."),
            (r"^blocks\.2\.", "conv3_1."),
            (r"^blocks\.3\.", "conv3_2."),
            (r"^blocks\.4\.", "conv4_1."),
            (r"^blocks\.5\.", "conv4_2."),
            (r"^blocks\.(6|7|8|9|10)\.", "conv5_{1-5}."),
            (r"^blocks\.11\.", "conv5_6."),
            (r"^blocks\.12\.", "conv6."),
            (r"^(conv\d_\d|conv6)\.depthwise_conv\.", "{1}._depthwise_conv."),
            (r"^(conv\d_\d|conv6)\.pointwise_conv\.", "{1}._pointwise_conv."),
            (r"wise_conv\.conv\.", "wise_conv.0."),
            (r"wise_conv\.bn\.", "wise_conv.1."),
        ),
    ),
    Names(
        "timm",
        ((r"^blocks\.\d+\.\d+\.conv_dw\.", ""),),
        refused="it has ReLU6, this one ReLU. Use weights of PaddleClas or paddle.vision.",
    ),
)

V2 = (
    Names(
        "timm",
        (
            (r"^conv_stem\.", "features.0.0."),
            (r"^bn1\.", "features.0.1."),
            (r"^conv_head\.", "features.18.0."),
            (r"^bn2\.", "features.18.1."),
            (r"^classifier\.", "classifier.1."),
            (r"^blocks\.(?P<n>\d+\.\d+)\.", "features.{#+1}."),
            (r"^features\.1\.conv_dw\.", "features.1.conv.0.0."),
            (r"^features\.1\.bn1\.", "features.1.conv.0.1."),
            (r"^features\.1\.conv_pw\.", "features.1.conv.1."),
            (r"^features\.1\.bn2\.", "features.1.conv.2."),
            (r"\.conv_pw\.", ".conv.0.0."),
            (r"\.bn1\.", ".conv.0.1."),
            (r"\.conv_dw\.", ".conv.1.0."),
            (r"\.bn2\.", ".conv.1.1."),
            (r"\.conv_pwl\.", ".conv.2."),
            (r"\.bn3\.", ".conv.3."),
        ),
    ),
)

_OTHER_V3 = (
    "its first block has no expansion, it rounds the squeeze to multiples of 8, and its ε and hard sigmoid "
    "differ. Use model=mobilenet_v3_large (or _small), which is that network, or weights of PaddleClas for this one."
)
V3 = (
    Names(
        "PaddleClas",
        (
            (r"^conv\.", "conv1."),
            (r"^blocks\.(\d+)\.", "conv{1+2}."),
            (r"^fc\.", "out."),
        ),
    ),
    Names("torchvision", ((r"^features\.\d+\.block\.", ""),), refused=_OTHER_V3),
    Names("paddle.vision", ((r"^lastconv\.0\.", ""),), refused=_OTHER_V3),
    Names("timm", ((r"^blocks\.\d+\.\d+\.conv_dw\.", ""),), refused=_OTHER_V3),
)


def _timm_v3(last: int) -> Names:
    """timm's names, where stage `last` is the convolution after the blocks."""
    return Names(
        "timm",
        (
            (r"^conv_stem\.", "conv.0."),
            (r"^bn1\.", "conv.1."),
            (r"^conv_head\.", "classifier.0."),
            (r"^classifier\.(weight|bias)", "classifier.3.{1}"),
            (rf"^blocks\.{last}\.0\.conv\.", "lastconv.0."),
            (rf"^blocks\.{last}\.0\.bn1\.", "lastconv.1."),
            (r"^blocks\.(?P<n>\d+\.\d+)\.", "blocks.{#}."),
            (r"\.se\.conv_reduce\.", ".mid_se.fc1."),
            (r"\.se\.conv_expand\.", ".mid_se.fc2."),
            (r"^blocks\.0\.conv_dw\.", "blocks.0.bottleneck_conv.0."),
            (r"^blocks\.0\.bn1\.", "blocks.0.bottleneck_conv.1."),
            (r"^blocks\.0\.conv_pw\.", "blocks.0.linear_conv.0."),
            (r"^blocks\.0\.bn2\.", "blocks.0.linear_conv.1."),
            (r"\.conv_pw\.", ".expand_conv.0."),
            (r"^(blocks\.\d+)\.bn1\.", "{1}.expand_conv.1."),
            (r"\.conv_dw\.", ".bottleneck_conv.0."),
            (r"^(blocks\.\d+)\.bn2\.", "{1}.bottleneck_conv.1."),
            (r"\.conv_pwl\.", ".linear_conv.0."),
            (r"\.bn3\.", ".linear_conv.1."),
        ),
        epsilon=1e-5,
        # (0.485, …), 0.5 and 0, by the recipe.
        mean=None,
        std=None,
    )


V3_VISION = (
    Names(
        "torchvision",
        (
            (r"^features\.0\.", "conv."),
            (r"^features\.(\d+)\.block\.", "blocks.{1-1}.block."),
            (r"^features\.(?:16|12)\.", "lastconv."),
            (r"\.block\.\d\.fc([12])\.", ".mid_se.fc{1}."),
            # The first block has no expansion, so its first convolution is the depthwise one.
            (r"^blocks\.0\.block\.0\.", "blocks.0.bottleneck_conv."),
            (r"^blocks\.0\.block\.[12]\.", "blocks.0.linear_conv."),
            (r"\.block\.0\.", ".expand_conv."),
            (r"\.block\.1\.", ".bottleneck_conv."),
            (r"\.block\.[23]\.", ".linear_conv."),
        ),
    ),
    _timm_v3(6),
    _timm_v3(5),
)
