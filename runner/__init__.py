"""Trains, distils, compresses, compares and exports image classifiers on PaddlePaddle.

From Python: `train`, `sweep` and `open`, which return a `Run` or a `Sweep`; `errors` has what they raise. Modules are
imported when first used.

    import runner

    run = runner.train("mode=cls_distill", "compression=qat")
    run.metrics["top1"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .cli.api import Prediction, Run, Sweep, open, sweep, train

__version__ = "0.2.0.dev0"
__all__ = ["Prediction", "Run", "Sweep", "errors", "open", "sweep", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    import importlib
    import random

    # rich, which this imports, draws from the caller's random numbers on import.
    state = random.getstate()
    try:
        module = importlib.import_module("runner.errors" if name == "errors" else "runner.cli.api")
    finally:
        random.setstate(state)
    return module if name == "errors" else vars(module)[name]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
