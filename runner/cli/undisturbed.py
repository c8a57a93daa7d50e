"""Uses Paddle in the caller's process without side effects."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Allow building a network in the context; leaves the caller's environment, RNG and logging unchanged.

    Paddle 3.3.1 adds a handler to the root logger when it is imported.
    """
    environment = dict(os.environ)
    python, numpy = random.getstate(), np.random.get_state()
    handlers, level = list(logging.root.handlers), logging.root.level
    with _paddle_generators():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
            for name in {*environment, *os.environ}:
                if name not in environment:
                    del os.environ[name]
                elif os.environ.get(name) != environment[name]:
                    os.environ[name] = environment[name]


@contextlib.contextmanager
def _paddle_generators() -> Iterator[None]:
    """Restore Paddle's generators after the context, if the caller had imported it."""
    if "paddle" not in sys.modules:
        yield
        return
    from ..training import seeding

    state = seeding.state()
    try:
        yield
    finally:
        seeding.restore(state)
