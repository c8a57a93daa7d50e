"""What must hold for each field by itself: bounds, finite numbers, targets, non-empty texts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from .. import Config
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


def problems(config: Config) -> Iterator[str]:
    """Yields what is wrong with single fields."""
    for key, value, part, field in walk(config):
        if field.name == "kind" and value != type(part).kind:
            group = key.removesuffix(".kind").partition(".also.")[0]
            yield f"{key}={value}: the kind follows from the choice. Write {group}={value} instead."
        if field.name == "target" and value is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
            yield f"{key}={value}: a target is written package.module:callable, such as {key}=my.models:build"
        if field.name == "target" and value is not None and value.startswith("__main__:"):
            yield f"{key}={value}: {IN_MAIN}"
        if value == "" and field.default != "":
            yield f"{key} is empty: give it a value, or remove it."
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number) and field.metadata:
                yield f"{key}={value}: must be a finite number."
            if number is None or isinstance(number, (bool, str, dict)):
                continue
            for bound, (holds, words) in _BOUNDS.items():
                limit = field.metadata.get(bound)
                if limit is not None and not holds(number, limit):
                    yield f"{key}={value}: must be {words} {limit}."
