"""How images were preprocessed for the network that weights are of, compared with a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np

from .. import config as cfg
from ..config import networks, store
from ..models.names import MEAN, STD, Names
from . import published


class Preprocessing(TypedDict, total=False):
    """Keys below `data` that decide how an image is preprocessed, as far as they are known."""

    image_size: list[int]
    """[height, width]"""
    channels: int
    mean: list[float]
    std: list[float]
    resize: str
    crop_ratio: float
    background: list[int]


KEYS = tuple(Preprocessing.__annotations__)
#: Means and deviations that differ by less than this fraction of themselves, half a grey value, are the same.
RELATIVE = 0.005


def of(data: cfg.Data) -> Preprocessing:
    """The preprocessing of a config."""
    values: Any = {key: store.to_plain(getattr(data, key)) for key in KEYS}
    return values | {"image_size": list(data.size)}


def of_published(model: cfg.Model, table: Names | None) -> Preprocessing:
    """The normalisation that published weights of an architecture were trained with; empty where it is not known.

    `table`: that of their parameters' names; None for the network's own names. For their image size see `size_notes`.
    """
    match table, model:
        case Names(mean=mean, std=std), _:
            pass
        case None, cfg.PaddleClas(architecture=architecture):
            mean, std = published.normalisation(architecture) or (None, None)
        case None, cfg.Vision() | cfg.MobileNetV3() if not isinstance(model, cfg.Siamese):
            mean, std = MEAN, STD
        case _:
            return {}
    if mean is None or std is None:
        return {}
    return {"channels": len(mean), "mean": [round(one, 3) for one in mean], "std": [round(one, 3) for one in std]}


def normalisation_notes(origin: str, usual: Preprocessing, here: Preprocessing, prefix: str = "data.") -> list[str]:
    """A note on weights that do not say how their images were normalised, unless these images are as is usual.

    `usual`: the normalisation of most published weights of their kind; empty if it is not known. `prefix`: what the
    keys begin with.
    """
    says = f"{origin} does not say how its images were normalised"
    if not usual:
        taken = overrides(here, ("mean", "std"), prefix)
        return [f"{says}. If it was not by {taken}, give these keys"]
    if not (differing := differences(usual, here)):
        return []
    return [f"{says}. Most published weights of this kind were trained with {overrides(usual, differing, prefix)}"]


def size_notes(called: str, model: cfg.Model, here: Preprocessing) -> list[str]:
    """A note if the published weights of this architecture are of another image size; empty where it is not known.

    The size is a choice that fine-tuning makes, so it is no difference that refuses anything.
    """
    name = cfg.choice_name(model)
    network = networks.by_name().get(name)
    size = network and network.image_size
    if not size or here["image_size"] == [size, size]:
        return []
    return [
        f"{called}: published weights of {name} are of data.image_size={size}; these images are of "
        + "×".join(map(str, here["image_size"]))
    ]


def differences(trained: Preprocessing, here: Preprocessing) -> list[str]:
    """The keys in which two preprocessings differ, of those that both have."""
    one, other = dict(trained), dict(here)
    return [key for key in KEYS if key in one and key in other and not _is_same(key, one[key], other[key])]


def overrides(values: Preprocessing, keys: Iterable[str], prefix: str = "data.") -> str:
    """The overrides that give these keys these values."""
    plain: dict[str, Any] = dict(values)
    if len(set(plain.get("image_size", ()))) == 1:
        plain["image_size"] = plain["image_size"][0]
    return " ".join(f"{prefix}{key}={str(plain[key]).replace(' ', '')}" for key in keys)


def _is_same(key: str, one: Any, other: Any) -> bool:
    if key in ("mean", "std"):
        return len(one) == len(other) and np.allclose(one, other, RELATIVE, 1e-6)
    return bool(one == other)
