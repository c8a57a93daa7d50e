"""Schema of the group `model`: which network is trained."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded, size_of_images, weights_path

#: The functions of `paddle.vision.models` that build a network: choices of `model` by their names.
ARCHITECTURES = (
    "alexnet", "densenet121", "densenet161", "densenet169", "densenet201", "densenet264", "googlenet", "inception_v3",
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet101", "resnet152", "resnet18",
    "resnet34", "resnet50", "resnext101_32x4d", "resnext101_64x4d", "resnext152_32x4d", "resnext152_64x4d",
    "resnext50_32x4d", "resnext50_64x4d", "shufflenet_v2_swish", "shufflenet_v2_x0_25", "shufflenet_v2_x0_33",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0",
    "squeezenet1_1", "vgg11", "vgg13", "vgg16", "vgg19", "wide_resnet101_2", "wide_resnet50_2",
)  # fmt: skip

#: The value of `weights` for the published weights of an architecture.
PUBLISHED = "imagenet"
#: Numbers of layers that a ResNet of basic blocks can have.
DEPTHS = (10, 18, 34)


class Size(Enum):
    """The two layouts of MobileNetV3."""

    large = "large"
    small = "small"


class Stem(Enum):
    """Which image size the first layers of a network are made for."""

    imagenet = "imagenet"
    small = "small"


@dataclass
class Model:
    """An image classifier; the number of classes comes from the data."""

    kind: str = "???"
    """Name of the choice; set by it."""
    stem: Stem = Stem.imagenet
    """`imagenet`: the first layers as published. `small`, for images below about 64 pixels: stride 1, a kernel of at
    most 3×3 and no max pooling, so that the resolution is kept."""
    freeze: list[str] = field(default_factory=list)
    """Patterns of layers and parameters that do not train (`conv1`, `*.mid_se.*`), or `backbone`: all but the head."""
    freeze_epochs: Optional[float] = bounded(None, above=0)
    """Epochs after which they train as well; null: never."""
    weights: Optional[str] = weights_path(None)
    """Initial weights: `imagenet` (published weights of this architecture, downloaded), a file (`.safetensors`,
    `.pdparams`, `.onnx`, PyTorch's `.pth`, `.pt`, `.bin`, `.ckpt`, `.tar`; names of Paddle, PaddleClas, torchvision or
    timm), or a run.
    Another number of classes or channels is adapted. For a whole run: `checkpoint.init_from`."""


@dataclass
class MobileNetV3(Model):
    """MobileNetV3 (Howard et al., ICCV 2019) with the parameter names of PaddleOCR and PaddleClas."""

    kind: str = "mobilenet_v3"
    size: Size = Size.large
    """Layout: 15 blocks (large) or 11 (small)."""
    scale: float = bounded(0.5, above=0, max=4)
    """Width multiplier; channels are rounded to multiples of 8."""
    dropout: float = bounded(0.2, min=0, below=1)
    """Probability of dropping a feature before the classifier."""
    custom_relu: bool = False
    """Use the C++/CUDA ReLU operator of this package, compiled on first use."""


@dataclass
class Siamese(MobileNetV3):
    """Two MobileNetV3 trunks that see the same image; their feature maps are added and share one head."""

    kind: str = "siamese"


@dataclass
class ResNet(Model):
    """ResNet of basic blocks (He et al., CVPR 2016), also shallower and thinner ones."""

    kind: str = "resnet"
    depth: int = 10
    """Number of layers: 10, 18 or 34."""
    scale: float = bounded(0.5, above=0, max=4)
    """Width multiplier; channels are rounded to multiples of 8."""


@dataclass
class EfficientNetLite(Model):
    """EfficientNet-Lite (Tan and Le, ICML 2019, without squeeze-excitation and with ReLU6), for small devices."""

    kind: str = "efficientnet_lite"
    version: int = bounded(0, min=0, max=4)
    """0 to 4: from the smallest network, made for images of 224 pixels, to the largest, made for 300."""
    dropout: float = bounded(0.2, min=0, below=1)
    """Probability of dropping a feature before the classifier."""
    drop_connect: float = bounded(0.2, min=0, below=1)
    """Probability of dropping the last block for an image (stochastic depth); it rises linearly from 0 at the first
    one."""


@dataclass
class Vision(Model):
    """A classification network of `paddle.vision.models`."""

    kind: str = "vision"
    architecture: str = "resnet18"
    """Name of the function in `paddle.vision.models`, such as resnet50 or vgg16."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of that function."""


@dataclass
class PaddleClas(Model):
    """A classification network of PaddleClas, which is installed separately."""

    kind: str = "paddleclas"
    architecture: str = "PPLCNet_x1_0"
    """Name of the function in `ppcls.arch.backbone`, such as PPLCNet_x1_0 or ViT_small_patch16_224."""
    image_size: Any = size_of_images(224)
    """Image size that it is built for, as networks such as ViT require; default: `data.image_size`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of that function."""


@dataclass
class CustomModel(Model):
    """A user-defined network: `target(num_classes=…, **kwargs)` returns a `paddle.nn.Layer`."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


def model_name(model: Model) -> str:
    """Short name of a network, as run names and tags show it: `mobilenet_v3_large_x0_5`, `resnet18_small_stem`."""
    return _architecture(model) + ("_small_stem" if model.stem is Stem.small else "")


def model_choice(model: Model) -> str:
    """The overrides that choose a network: `model=paddleclas/PPLCNet_x1_0`, `model=resnet18 model.stem=small`."""
    if isinstance(model, CustomModel):
        return f"model=custom model.target={model.target}"
    return f"model={choice_name(model)}" + (" model.stem=small" if model.stem is Stem.small else "")


def choice_name(model: Model) -> str:
    """Name of a network among the choices of `model`, whatever its stem: `resnet18`, `paddleclas/PPLCNet_x1_0`."""
    match model:
        case CustomModel() | Siamese():
            return model.kind
        case PaddleClas():
            return f"paddleclas/{model.architecture}"
    return _architecture(model)


def _architecture(model: Model) -> str:
    match model:
        case MobileNetV3():
            return f"{model.kind}_{model.size.name}_x{model.scale}".replace(".", "_")
        case ResNet():
            return f"resnet{model.depth}_x{model.scale}".replace(".", "_")
        case EfficientNetLite():
            return f"{model.kind}{model.version}"
        case Vision() | PaddleClas():
            return model.architecture
        case CustomModel():
            return model.target.rpartition(":")[2] or model.target
    return model.kind
