"""Uses Paddle in the caller's process without side effects."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
from collections.abc import Iterator

import numpy as np

from ..config.targets import paddle_defaults

#: Paddle's networks are not thread-safe, and what is restored is of the whole process.
_LOCK = threading.RLock()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Allow building and calling a network in the context, by one thread of the process at a time.

    Paddle has its defaults there, whatever the caller's are: float32 and dynamic mode. Leaves the caller's environment,
    RNG, logging and Paddle's settings unchanged. Paddle 3.3.1 adds a handler to the root logger when it is imported.
    """
    with _LOCK, paddle_defaults(), _restoring():
        yield


@contextlib.contextmanager
def _restoring() -> Iterator[None]:
    """Restore the environment, generators and root logger after the context."""
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
