"""Parameter names of ResNet, ResNeXt, wide ResNet and DenseNet in other frameworks.

torchvision and timm use Paddle's names for a ResNet's layers.
"""

from .mapping import Names

#: Number of blocks in each of the four stages.
_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}


def resnet(architecture: str) -> tuple[Names, ...]:
    """PaddleClas numbers blocks over all stages; its two smaller networks have one more convolution."""
    if architecture not in _DEPTHS:
        reason = "its first block has a convolution on the shortcut. Use weights of torchvision, timm or paddle.vision."
        return (Names("PaddleClas", ((r"^blocks\.0\.short\.", ""),), refused=reason),)
    places = [(stage, block) for stage, blocks in enumerate(_DEPTHS[architecture], 1) for block in range(blocks)]
    return (
        Names(
            "PaddleClas",
            (
                (r"^stem\.0\.conv\.", "conv1."),
                (r"^stem\.0\.bn\.", "bn1."),
                *((rf"^blocks\.{number}\.", f"layer{stage}.{block}.") for number, (stage, block) in enumerate(places)),
                (r"\.conv(\d)\.conv\.", ".conv{1+1}."),
                (r"\.conv(\d)\.bn\.", ".bn{1+1}."),
                (r"\.short\.conv\.", ".downsample.0."),
                (r"\.short\.bn\.", ".downsample.1."),
            ),
        ),
    )


_LAYER = r"^features\.denseblock(\d)\.denselayer(\d+)"
_UNIT = "db_conv_{1+1}.conv{1+1}_{2}.bn_ac_func{3}"

DENSENET = (
    Names(
        "torchvision",
        (
            (r"^features\.conv0\.", "conv1_func._conv."),
            (r"^features\.norm0\.", "conv1_func._batch_norm."),
            # Files of before 2018 have `norm.1`.
            (r"\.(norm|conv)\.(\d)\.", ".{1}{2}."),
            (rf"{_LAYER}\.norm(\d)\.", f"{_UNIT}._batch_norm."),
            (rf"{_LAYER}\.conv(\d)\.", f"{_UNIT}._conv."),
            (r"^features\.transition(\d)\.norm\.", "tr_conv{1+1}_blk.conv_ac_func._batch_norm."),
            (r"^features\.transition(\d)\.conv\.", "tr_conv{1+1}_blk.conv_ac_func._conv."),
            (r"^features\.norm5\.", "batch_norm."),
            (r"^classifier\.", "out."),
        ),
    ),
)
