"""How a field of the schema states which values it accepts."""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")

#: Metadata keys of fields that are paths, of those that name weights, and of sizes of images.
PATH, WEIGHTS, SIZE = "path", "weights", "size"
#: Longest side of an image in pixels.
LONGEST_SIDE = 1 << 14


def bounded(
    default: T,
    *,
    min: float | None = None,
    above: float | None = None,
    max: float | None = None,
    below: float | None = None,
) -> T:
    """A numeric dataclass field that accepts only values within the bounds.

    `min` and `max` are inclusive, `above` and `below` exclusive. `None` values are accepted where the field is
    optional; elements of a list are checked one by one. `rules.validate` reports a violation with the full key.
    """
    bounds = {"min": min, "above": above, "max": max, "below": below}
    limits = {name: value for name, value in bounds.items() if value is not None}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=limits)  # type: ignore[return-value]
    return field(default=default, metadata=limits)


def size_of_images(default: Any) -> Any:
    """A dataclass field for a size of images in pixels: the side of a square, [height, width] or, if that is the
    default, None."""
    return field(default=default, metadata={SIZE: True, "min": 1, "max": LONGEST_SIDE})


def path(default: T, **about: bool) -> T:
    """A dataclass field that is a path, a list of paths, or None: a leading `~` in each is the home directory."""
    metadata = {PATH: True, **about}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)  # type: ignore[return-value]
    return field(default=default, metadata=metadata)  # type: ignore[return-value]


def weights_path(default: T) -> T:
    """A dataclass field that names weights: a run, by its directory or its MLflow run id, or a file."""
    return path(default, **{WEIGHTS: True})
