"""A table of published networks, by name: what is known of them without building them."""

from __future__ import annotations

import csv
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Written by `python -m docs.networks`.
TABLE = Path(__file__).with_name("networks.csv")
PADDLECLAS = "paddleclas/"
INSTALL_PADDLECLAS = (
    "Install it without its dependencies, which its networks do not need and which would replace NumPy: "
    "pip install --no-deps paddleclas==2.6.0"
)


@dataclass(frozen=True)
class Network:
    """A choice of `model`, and its costs, if they were measured."""

    name: str
    """The choice of `model`."""
    image_size: int | None = None
    """Side of the images in pixels that it was designed for, and that `macs` refers to."""
    params: int | None = None
    """With 1,000 classes."""
    macs: int | None = None
    """Multiply-accumulate operations of one image of that size."""


@functools.cache
def by_name() -> dict[str, Network]:
    """Every network by its name as a choice of `model`, in the order of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return {name: Network(name, *(int(text) if text else None for text in costs)) for name, *costs in rows}


@functools.cache
def paddleclas() -> tuple[str, ...]:
    """The classifiers of PaddleClas, by their names there."""
    return tuple(name.removeprefix(PADDLECLAS) for name in by_name() if name.startswith(PADDLECLAS))


def without_paddleclas() -> Iterator[str]:
    """Yields what is wrong if PaddleClas is not installed."""
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or not spec.origin:
        yield f"model=paddleclas/… needs PaddleClas, which is not installed. {INSTALL_PADDLECLAS}"
