"""Grad-CAM maps of a network's predictions, and the effects of compression on its layers, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, files
from . import page

if TYPE_CHECKING:
    from ..compression.effects import Effects
    from ..runs.explained import Explanation


@dataclass
class Content:
    """The contents of the page."""

    about: str
    """Which network of which run, and which images."""
    command: str
    """The command that makes the page again."""
    place: str = ""
    """The layer at which the maps were taken; empty if there are none."""
    pictures: Sequence[Explanation] = ()
    wrong: tuple[int, int] | None = None
    """(misclassified images, all images); None if the true classes are unknown."""
    notes: list[str] = field(default_factory=list)
    effects: Effects | None = None
    """Effects of compression, if the network is compressed."""


def write(path: Path, content: Content) -> None:
    """Write the page."""
    context = {
        "title": "What the network looks at" if content.place else "The effect of compression on each layer",
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "content": content,
    }
    files.write_text(path, page.environment().get_template("explain.html").render(context))
