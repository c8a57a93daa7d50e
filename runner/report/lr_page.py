"""A learning-rate range test as an offline HTML page."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, files
from . import charts, page

if TYPE_CHECKING:
    from ..training.range_test import Range


def write(path: Path, curve: Range, about: str, commands: tuple[str, str]) -> None:
    """Write the page.

    `commands`: the one that trains with the suggested rate, empty without one, and the one that makes the page again.
    """
    context = {
        "title": "Learning-rate range test",
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "about": about,
        "suggestion": None if curve.suggested is None else f"{curve.rates[curve.suggested]:.2g}",
        "lowest": f"{curve.rates[curve.lowest]:.2g}",
        "highest": f"{curve.rates[-1]:.2g}",
        "steps": len(curve.rates),
        "svg": charts.over_rates(curve.rates, curve.losses, curve.smoothed, curve.suggested),
        "training": commands[0],
        "command_line": commands[1],
    }
    files.write_text(path, page.environment().get_template("lr.html").render(context))
