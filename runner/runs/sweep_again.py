"""Finds the sweep that a command continues, in whatever order its overrides are written."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..errors import Damaged
from . import sweep
from .journal import SWEEP


def in_order(directory: Path, overrides: list[str]) -> list[str]:
    """Overrides in the order in which the sweep of a folder was begun: it numbers and names the jobs."""
    try:
        earlier = sweep.read(directory).overrides
    except Damaged:
        return overrides
    ordered = sweep.of_jobs(earlier)
    if ordered == sweep.of_jobs(overrides) or sweep.digest(earlier) != sweep.digest(overrides):
        return overrides
    return [*(text for text in overrides if text not in ordered), *ordered]


def folder_of(parent: Path, overrides: list[str]) -> Path:
    """The folder in which a command finds its sweep again, or begins it.

    Earlier versions named it by a digest that depended on the order of the overrides, and with which the sweep's id
    begins; folders of other names are copies, or were chosen by the user.
    """
    named, wanted = parent / sweep.digest(overrides), sweep.digest(overrides)
    if (named / SWEEP).exists():
        return named
    for path in sorted(parent.glob(f"*/{SWEEP}")):
        with contextlib.suppress(Damaged):
            earlier = sweep.read(path.parent)
            if earlier.id.partition("-")[0] == path.parent.name and sweep.digest(earlier.overrides) == wanted:
                return path.parent
    return named
