"""What a command costs, as a multiple of what any command of its kind must cost: no machine's speed is in it."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

#: What composing a config and drawing a table take at least.
IMPORTS = "import hydra.compose, numpy, PIL.Image, rich.table, yaml, logging.config"


def over_imports(run: Callable[[], object], rounds: int = 3) -> float:
    """Processor time of what `run` starts over that of a Python which only imports, each the least of some rounds."""
    imports, runs = [], []
    for _ in range(rounds):
        imports.append(_of(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)))
        runs.append(_of(run))
    return min(runs) / min(imports)


def _of(run: Callable[[], object]) -> float:
    """Seconds of the processor in children: what others do on this machine does not count."""
    began = _children()
    run()
    return _children() - began


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
