"""Where the evidence for a network's answers is, and what compression did to its layers, as a page on its own."""

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
    """What the page shows."""

    about: str
    """Which network of which run, and which pictures."""
    command: str
    """What makes the page again."""
    place: str = ""
    """Where in the network the maps were taken; empty where there are none."""
    pictures: Sequence[Explanation] = ()
    wrong: tuple[int, int] | None = None
    """How many images were taken for another class, of how many; None where the classes are not known."""
    notes: list[str] = field(default_factory=list)
    effects: Effects | None = None
    """Of a compressed network."""


def write(path: Path, content: Content) -> None:
    """Write the page."""
    context = {
        "title": "What the network looks at" if content.place else "What compression did to each layer",
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "content": content,
    }
    files.write_text(path, page.environment().get_template("explain.html").render(context))
