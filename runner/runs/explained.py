"""`explained.json`: Grad-CAM maps of a run's worst mistakes. Only this module reads and writes it."""

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
    """The Grad-CAM map of one class."""

    name: str
    """The class."""
    role: str
    """Why it is shown: `predicted`, `true`, `predicted and true`, `most probable` or `asked for`."""
    probability: float
    found: bool
    """Whether the map is not all zero."""
    png: str
    """The overlay: a PNG with alpha in base64."""


@dataclass
class Explained:
    """One of the images of a split with its maps."""

    index: int
    """The image's index in the split."""
    maps: list[Map]


@dataclass
class Explanation(Explained):
    """An image with everything that a page shows of it."""

    name: str
    """Its name."""
    label: str
    """Its class, or multi-label its labels; empty if unknown."""
    predicted: str
    """The predicted class."""
    png: str
    """The network's input, PNG in base64."""
    second: tuple[str, float] | None = None
    """The second most probable class with its probability; None for multi-label images."""


@dataclass
class Explanations:
    """`explained.json`."""

    place: str
    """Where in the network the maps were taken."""
    images: list[Explained]

    @property
    def by_image(self) -> dict[int, list[Map]]:
        """Index of an image → its maps."""
        return {one.index: one.maps for one in self.images}


def write(path: Path, place: str, explanations: Iterable[Explanation]) -> None:
    """Store the maps of a run's worst mistakes, for reports. Errors: OSError."""
    images = [Explained(one.index, one.maps) for one in explanations]
    files.write_text(path, files.to_json(dataclasses.asdict(Explanations(place, images))))


def read(path: Path) -> Explanations:
    """The maps of a run; without images if it has none. Errors: Damaged."""
    content: Explanations = stored.read_json(path, Explanations) or Explanations("", [])
    if not all(BASE64.fullmatch(each.png) for one in content.images for each in one.maps):
        raise Damaged(f"{path} is damaged: an image in it is not base64. {stored.REMEDY}")
    return content
