"""Parameter names of AlexNet, VGG, SqueezeNet, GoogLeNet, InceptionV3 and ShuffleNetV2 in other frameworks."""

from .mapping import Names

#: torchvision converts ImageNet's normalisation to this one inside the network.
_HALF = (0.5, 0.5, 0.5)

ALEXNET = (
    Names(
        "torchvision",
        (
            (r"^features\.0\.", "_conv1._conv."),
            (r"^features\.3\.", "_conv2._conv."),
            (r"^features\.6\.", "_conv3."),
            (r"^features\.8\.", "_conv4."),
            (r"^features\.10\.", "_conv5._conv."),
            (r"^classifier\.1\.", "_fc6."),
            (r"^classifier\.4\.", "_fc7."),
            (r"^classifier\.6\.", "_fc8."),
        ),
        scaled=((r"^_fc[67]\.weight$", 2),),
    ),
)

# torchvision has Paddle's names for a VGG's layers.
VGG = (
    Names(
        "timm",
        (
            (r"^pre_logits\.fc1\.", "classifier.0."),
            (r"^pre_logits\.fc2\.", "classifier.3."),
            (r"^head\.fc\.", "classifier.6."),
        ),
    ),
)

SQUEEZENET = (
    Names(
        "torchvision",
        ((r"^features\.\d+\.squeeze\.", ""),),
        refused="its pooling uses ceil_mode, Paddle's floors. Use weights of paddle.vision.",
    ),
)

GOOGLENET = (
    # The networks here have no auxiliary classifiers.
    Names("paddle.vision", ignored=r"^_(conv_o|fc_o|out)[12]\."),
    Names(
        "torchvision",
        ((r"^inception3a\.branch1\.bn\.", ""),),
        refused="it normalises after every convolution, Paddle's GoogLeNet never. Use weights of paddle.vision.",
    ),
)

INCEPTION_V3 = (
    Names(
        "torchvision",
        (
            (r"^Conv2d_(\d\w_\dx\d)\.", "inception_stem.conv_{1}."),
            (r"^Mixed_(?P<n>[567]\w)\.", "inception_block_list.{1}."),
            (r"\.branch_pool\.", ".branch_pool_conv."),
            (r"\.conv\.", ".0."),
            (r"\.bn\.", ".1."),
            *(
                (rf"^inception_block_list\.{name}\.", f"inception_block_list.{number}.")
                for number, name in enumerate(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))
            ),
        ),
        ignored=r"^AuxLogits\.",
        scaled=((r"^fc\.weight$", 1 / 0.8),),
        epsilon=1e-3,
        mean=_HALF,
        std=_HALF,
    ),
)

SHUFFLENET_V2 = (
    Names(
        "torchvision",
        (
            (r"^conv1\.", "_conv1."),
            (r"^conv5\.", "_last_conv."),
            (r"^fc\.", "_fc."),
            (r"^stage(\d)\.(\d+)\.", "{1}_{2+1}."),
            (r"\.branch1\.([01])\.", "._conv_dw_1.{1}."),
            (r"\.branch1\.([23])\.", "._conv_linear_1.{1-2}."),
            (r"\.branch2\.([01])\.", "._conv_pw_2.{1}."),
            (r"\.branch2\.([34])\.", "._conv_dw_2.{1-3}."),
            (r"\.branch2\.([56])\.", "._conv_linear_2.{1-5}."),
            # Only blocks that halve the map have two branches to tell apart.
            (r"^(\d)_((?!1\.)\d+)\._conv_(pw|dw|linear)_2\.", "{1}_{2}._conv_{3}."),
        ),
    ),
)
