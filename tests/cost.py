"""What a command costs, as a multiple of what any command of its kind must cost: no machine's speed is in it."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
from collections.abc import Callable

#: What composing a config and drawing a table take at least.
IMPORTS = "import hydra.compose, numpy, PIL.Image, rich.table, yaml, logging.config"


def within(times: float, run: Callable[[], object], rounds: int = 3) -> bool:
    """Whether what `run` starts takes at most so many times the imports' processor time, in its best of some rounds."""
    return any(_of(run) < times * _imports() for _ in range(rounds))


@functools.cache
def _imports() -> float:
    """Seconds of the processor of a Python that only imports: the least of three."""
    return min(_of(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)) for _ in range(3))


def _of(run: Callable[[], object]) -> float:
    """Seconds of the processor in children: what others do on this machine does not count."""
    began = _children()
    run()
    return _children() - began


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
