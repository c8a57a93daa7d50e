"""A flag that is on within a context."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Switch:
    """Off, except within `with switch():`; contexts may be nested."""

    def __init__(self) -> None:
        self.on = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        before, self.on = self.on, True
        try:
            yield
        finally:
            self.on = before
