"""A learning-rate range test as a page that needs no network."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, files
from . import charts, page

if TYPE_CHECKING:
    from ..training.range_test import Range


def write(path: Path, found: Range, about: str, commands: tuple[str, str]) -> None:
    """Write the page. `commands`: what trains with the suggestion, empty without one, and what makes the page again."""
    context = {
        "title": "Learning-rate range test",
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "about": about,
        "suggestion": None if found.steepest is None else f"{found.rates[found.steepest]:.2g}",
        "lowest": f"{found.rates[found.lowest]:.2g}",
        "highest": f"{found.rates[-1]:.2g}",
        "steps": len(found.rates),
        "svg": charts.over_rates(found.rates, found.losses, found.smoothed, found.steepest),
        "training": commands[0],
        "command_line": commands[1],
    }
    files.write_text(path, page.environment().get_template("lr.html").render(context))
