"""`explained.json`: maps of the evidence in the worst mistakes of a run. It is written and read here alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import files, stored
from ..errors import Damaged
from .result import BASE64


@dataclass
class Map:
    """Where the evidence for one class is."""

    name: str
    """The class."""
    role: str
    """Why it is shown: `predicted`, `true`, `predicted and true`, `most probable` or `asked for`."""
    probability: float
    found: bool
    """Whether anything in the picture speaks for the class."""
    png: str
    """What lies over the picture: a PNG with alpha in base64."""


@dataclass
class Explained:
    """One of the images of a split with its maps."""

    index: int
    """Which image of the split."""
    maps: list[Map]


@dataclass
class Explanation(Explained):
    """A picture with all that a page shows of it."""

    name: str
    """What it is called."""
    label: str
    """Its class, or its labels where it has many; empty where they are not known."""
    predicted: str
    """What the network took it for."""
    png: str
    """What the network saw, PNG in base64."""


@dataclass
class Explanations:
    """`explained.json`."""

    place: str
    """Where in the network the maps were taken."""
    images: list[Explained]


def write(path: Path, place: str, explanations: Iterable[Explanation]) -> None:
    """Keep the maps of a run's worst mistakes, for reports to show. Errors: OSError."""
    images = [Explained(one.index, one.maps) for one in explanations]
    files.write_text(path, files.to_json(dataclasses.asdict(Explanations(place, images))))


def read(path: Path) -> dict[int, list[Map]]:
    """Image → its maps; empty where a run has none. Errors: Damaged."""
    content: Explanations = stored.read_json(path, Explanations) or Explanations("", [])
    if not all(BASE64.fullmatch(each.png) for one in content.images for each in one.maps):
        raise Damaged(f"{path} is damaged: an image in it is not base64. {stored.REMEDY}")
    return {one.index: one.maps for one in content.images}
