"""How images were preprocessed for the network that weights are of, compared with a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np

from .. import config as cfg
from ..config import networks, store
from ..models.names import Names


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
#: The normalisation that most published weights were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Means and deviations that differ by less than this fraction of themselves, half a grey value, are the same.
RELATIVE = 0.005


def of(data: cfg.Data) -> Preprocessing:
    """The preprocessing of a config."""
    values: Any = {key: store.to_plain(getattr(data, key)) for key in KEYS}
    return values | {"image_size": list(data.size)}


def of_published(table: Names | None) -> Preprocessing:
    """The normalisation that published weights were trained with; for their image size see `size_notes`.

    `table`: that of their parameters' names; None for Paddle's own names, whose weights had ImageNet's statistics.
    """
    mean, std = (table.mean, table.std) if table and table.mean and table.std else (MEAN, STD)
    return {"channels": len(mean), "mean": [round(one, 3) for one in mean], "std": [round(one, 3) for one in std]}


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
