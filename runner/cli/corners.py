"""Composes the corners of a search's space before its first job: what is refused there would fail job after job."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import terminal
from ..errors import ConfigError
from . import compose, spaces

#: Most corners that are composed, and the seconds after which no further one is.
MOST, SECONDS = 40, 10.0


def refuse(space: spaces.Space, fixed: Sequence[str]) -> None:
    """Refuse a space where a job at a corner of it would be refused. `fixed`: the overrides that all jobs have.

    Errors: ConfigError with the rule, the job and the keys that need a fixed value.
    """
    ends = time.monotonic() + SECONDS
    for corner in itertools.islice(corners(space), MOST):
        if reason := _refusal(corner, fixed):
            raise ConfigError("\n".join([reason, *_remedy(corner, space, fixed)]))
        if time.monotonic() > ends:
            return


def corners(space: spaces.Space) -> Iterator[dict[str, Any]]:
    """Key → value at corners of a space, each once.

    They are those of the first choices and lowest numbers, of the last and highest, and all that differ from one of
    the two in one key.
    """
    ends = {key: one.ends() for key, one in space.items()}
    bases = [{key: some[place] for key, some in ends.items()} for place in (0, -1)]
    changed = ({**base, key: value} for base in bases for key, some in ends.items() for value in some)
    seen: list[dict[str, Any]] = []
    for corner in itertools.chain(bases, changed):
        if corner not in seen:
            seen.append(corner)
            yield corner


def _refusal(corner: Mapping[str, Any], fixed: Sequence[str]) -> str:
    """Why a job is refused; empty if it is not."""
    try:
        compose.config_of([*spaces.overrides(corner), *fixed])
    except ConfigError as error:
        return str(error)
    return ""


def _remedy(corner: Mapping[str, Any], space: spaces.Space, fixed: Sequence[str]) -> list[str]:
    """A line: what the search would try, and which keys make that a valid job if one of them has a single value.

    Empty where none of them does: then all that the search may try is refused, for the reason that is known.
    """
    single = []
    for key, dimension in space.items():
        others = (value for value in dimension.ends() if value != corner[key])
        valid = next((value for value in others if not _refusal({**corner, key: value}, fixed)), None)
        single += [] if valid is None else spaces.overrides({key: valid})
    if not single:
        return []
    tried = terminal.words(spaces.overrides(corner))
    instead = " or ".join(terminal.words([text]) for text in single)
    return [f"The search would try {tried}. Give a key one value in place of its range: {instead}"]
