"""The parameter names of other frameworks: for each family of networks a table of regular expressions.

`of` finds the tables of an architecture, `mapping.translate` applies them.
"""

from __future__ import annotations

from ... import config as cfg
from . import classic, efficientnet_lite, mobilenets, residual, transformers
from .mapping import MEAN, STD, Names, Translated, translate

__all__ = ["MEAN", "STD", "Names", "Translated", "of", "translate"]

#: Prefix of an architecture's name in `paddle.vision.models` → the names of others for its parameters.
_VISION: dict[str, tuple[Names, ...]] = {
    "alexnet": classic.ALEXNET,
    "densenet": residual.DENSENET,
    "googlenet": classic.GOOGLENET,
    "inception_v3": classic.INCEPTION_V3,
    "mobilenet_v1": mobilenets.V1,
    "mobilenet_v2": mobilenets.V2,
    "mobilenet_v3": mobilenets.V3_VISION,
    "shufflenet_v2": classic.SHUFFLENET_V2,
    "squeezenet": classic.SQUEEZENET,
    "vgg": classic.VGG,
}
#: The same of those in PaddleClas that do not have the names of others already.
_PADDLECLAS: dict[str, tuple[Names, ...]] = {
    "ConvNeXt": transformers.CONVNEXT,
}


def of(model: cfg.Model) -> tuple[Names, ...]:
    """The tables of an architecture, the likeliest first; none for one that only its own framework has."""
    match model:
        case cfg.Siamese():
            return ()
        case cfg.MobileNetV3():
            return mobilenets.V3
        case cfg.EfficientNetLite():
            return efficientnet_lite.TABLES
        case cfg.Vision(architecture=architecture) if architecture.startswith("resnet"):
            return residual.resnet(architecture)
        case cfg.Vision(architecture=architecture):
            return _beginning(_VISION, architecture)
        case cfg.PaddleClas(architecture=architecture):
            return _beginning(_PADDLECLAS, architecture)
    return ()


def _beginning(tables: dict[str, tuple[Names, ...]], architecture: str) -> tuple[Names, ...]:
    return next((own for start, own in tables.items() if architecture.startswith(start)), ())
