"""Parameter names of ConvNeXt in other frameworks; of ViT and DeiT PaddleClas has the names that timm has."""

from .mapping import Names

CONVNEXT = (
    Names(
        "timm",
        (
            (r"^stem\.", "downsample_layers.0."),
            (r"^stages\.(\d+)\.downsample\.", "downsample_layers.{1}."),
            (r"^stages\.(\d+)\.blocks\.(\d+)\.", "stages.{1}.{2}."),
            (r"\.conv_dw\.", ".dwconv."),
            (r"\.mlp\.fc(\d)\.", ".pwconv{1}."),
            (r"^head\.norm\.", "norm."),
            (r"^head\.fc\.", "head."),
        ),
        # ImageNet's, or those of CLIP.
        mean=None,
        std=None,
    ),
)
