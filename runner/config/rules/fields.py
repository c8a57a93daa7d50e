"""What must hold for each field by itself: bounds, finite numbers, targets, non-empty texts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import Field
from typing import Any

from ... import stored
from .. import Config
from ..fields import SIZE
from ..keys import walk

#: Remedy for a callable that exists only in the calling program.
IN_MAIN = (
    "what a notebook or script defines itself cannot be imported by the processes that train. Write it into a module "
    "in the working directory (in a notebook, %%writefile my_module.py as the first line of its cell) and name that: "
    "my_module:callable"
)
_BOUNDS = {
    "min": (lambda value, bound: value >= bound, "at least"),
    "above": (lambda value, bound: value > bound, "above"),
    "max": (lambda value, bound: value <= bound, "at most"),
    "below": (lambda value, bound: value < bound, "below"),
}


#: Most characters of a text: no path, name or pattern needs more. Notes have a limit of their own.
LONGEST_TEXT = 8192
#: Magnitudes of float32, with which networks compute: smaller ones become 0 in it, larger ones infinite.
LEAST, MOST = 2.0**-126, 2.0**127


def problems(config: Config) -> Iterator[str]:
    """Yields what is wrong with single fields."""
    for key, value, part, field in walk(config):
        if problem := _misfit(value, stored.hints_of(type(part))[field.name], key):
            # A bound says more than that a number is too large.
            yield next(_numbers(key, value, field), problem) if isinstance(value, int) else problem
        elif field.metadata.get(SIZE):
            yield from _size(key, value, field)
        elif field.name != "kwargs":
            # The arguments of a user's callable may be anything.
            yield from _text(key, value, part, field)
            yield from _numbers(key, value, field)


def _misfit(value: Any, hint: Any, key: str) -> str:
    """How a value's type, or that of something in it, is not that of its key; empty if it fits."""
    try:
        stored.check(value, hint, key)
    except ValueError as error:
        return f"{error}: {key}={value}"
    return ""


def _size(key: str, value: Any, field: Field[Any]) -> Iterator[str]:
    sides = value if isinstance(value, list) else [value] * 2
    if value is None and field.default is None:
        return
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        yield (
            f"{key}={value}: give the side of a square in pixels, such as {key}=224, or height and width, such as "
            f"{key}=[64,256]"
        )
        return
    yield from _numbers(key, value, field)


def _text(key: str, value: Any, part: Any, field: Field[Any]) -> Iterator[str]:
    if field.name == "kind" and value != type(part).kind:
        group = key.removesuffix(".kind").partition(".also.")[0]
        yield f"{key}={value}: the kind follows from the choice. Write {group}={value} instead."
    if field.name == "target" and value is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        yield f"{key}={value}: a target is written package.module:callable, such as {key}=my.models:build"
    if field.name == "target" and value is not None and value.startswith("__main__:"):
        yield f"{key}={value}: {IN_MAIN}"
    if value == "" and field.default != "":
        yield f"{key} is empty: give it a value, or remove it."
    if any(isinstance(text, str) and len(text) > LONGEST_TEXT for text in _items(value)):
        yield f"{key} has a text of more than {LONGEST_TEXT} characters."


def _numbers(key: str, value: Any, field: Field[Any]) -> Iterator[str]:
    for number in _items(value):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if isinstance(number, float) and not math.isfinite(number):
            yield f"{key}={value}: must be a finite number."
        for bound, (holds, words) in _BOUNDS.items():
            limit = field.metadata.get(bound)
            if limit is not None and not holds(number, limit):
                yield f"{key}={value}: must be {words} {limit}."
        if number and not LEAST <= abs(number) <= MOST:
            yield f"{key}={value}: must be 0 or have a magnitude from {LEAST:.3g} to {MOST:.3g}, as float32 has them."


def _items(value: Any) -> Iterable[Any]:
    """What a list or a mapping holds; any other value by itself."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
