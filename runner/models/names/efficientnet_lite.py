"""Parameter names of EfficientNet-Lite in other frameworks."""

from .mapping import Names

#: The authors' own preprocessing: (x - 127) / 128 of a byte x.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3

TABLES = (
    Names(
        "efficientnet_lite_pytorch",
        (
            (r"^_conv_stem\.", "stem.conv."),
            (r"^_bn0\.", "stem.bn."),
            (r"^_conv_head\.", "head.conv."),
            (r"^_bn1\.", "head.bn."),
            (r"^_fc\.", "fc."),
            (r"^_blocks\.", "blocks."),
            (r"\._expand_conv\.", ".expand.conv."),
            (r"\._bn0\.", ".expand.bn."),
            (r"\._depthwise_conv\.", ".depthwise.conv."),
            (r"\._bn1\.", ".depthwise.bn."),
            (r"\._project_conv\.", ".project.conv."),
            (r"\._bn2\.", ".project.bn."),
        ),
        mean=MEAN,
        std=STD,
    ),
    # Those of `tf_efficientnet_lite…`; the ones without `tf_` pad symmetrically, and are another network under the same
    # names.
    Names(
        "timm",
        (
            (r"^conv_stem\.", "stem.conv."),
            (r"^bn1\.", "stem.bn."),
            (r"^conv_head\.", "head.conv."),
            (r"^bn2\.", "head.bn."),
            (r"^classifier\.", "fc."),
            (r"^blocks\.(?P<n>\d+\.\d+)\.", "blocks.{#}."),
            (r"^(blocks\.0)\.conv_dw\.", "{1}.depthwise.conv."),
            (r"^(blocks\.0)\.bn1\.", "{1}.depthwise.bn."),
            (r"^(blocks\.0)\.conv_pw\.", "{1}.project.conv."),
            (r"^(blocks\.0)\.bn2\.", "{1}.project.bn."),
            (r"\.conv_pw\.", ".expand.conv."),
            (r"(blocks\.\d+)\.bn1\.", "{1}.expand.bn."),
            (r"\.conv_dw\.", ".depthwise.conv."),
            (r"(blocks\.\d+)\.bn2\.", "{1}.depthwise.bn."),
            (r"\.conv_pwl\.", ".project.conv."),
            (r"\.bn3\.", ".project.bn."),
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)
