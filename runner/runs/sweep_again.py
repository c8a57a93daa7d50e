"""Finds the sweep that a command continues, in whatever order its overrides are written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from ..errors import Damaged
from . import sweep, swept
from .journal import SWEEP


def in_order(directory: Path, planned: sweep.Sweep) -> list[str]:
    """The overrides of a sweep in the order in which that of a folder was begun: it numbers and names the jobs."""
    try:
        earlier = sweep.read(directory)
    except Damaged:
        return planned.overrides
    ordered = swept.of_jobs(earlier.overrides, earlier.varied)
    if ordered == swept.of_jobs(planned.overrides, planned.varied) or earlier.digest != planned.digest:
        return planned.overrides
    return [*(text for text in planned.overrides if text not in ordered), *ordered]


def folder_of(parent: Path, overrides: list[str], varied: Collection[str]) -> Path:
    """The folder in which a command that varies these keys finds its sweep again, or begins it.

    Earlier versions named it by a digest that depended on the order of the overrides, and with which the sweep's id
    begins; folders of other names are copies, or were chosen by the user.
    """
    wanted = swept.digest(overrides, varied)
    named = parent / wanted
    if (named / SWEEP).exists():
        return named
    for path in sorted(parent.glob(f"*/{SWEEP}")):
        with contextlib.suppress(Damaged):
            earlier = sweep.read(path.parent)
            if earlier.id.partition("-")[0] == path.parent.name and earlier.digest == wanted:
                return path.parent
    return named
