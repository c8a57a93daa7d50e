"""What must hold of a search by Optuna beyond its types."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConfigError, nearest
from . import GROUPS, Config, Cost, Parameter
from .keys import walk


def refuse_search(config: Config) -> None:
    """Refuse a search that cannot work. Errors: ConfigError."""
    for problem in problems(config):
        raise ConfigError(problem)


def problems(config: Config) -> Iterator[str]:
    """What is wrong with a search."""
    search = config.sweep.optuna
    if search is None:
        return
    if not search.space:
        yield "sweep.optuna.space is empty: nothing would be varied. Choose a preset such as +sweep/optuna=optimizer"
    keys = [key for key, *_ in walk(config)]
    for key, parameter in search.space.items():
        # Keys that only some choices have are added, as on the command line.
        if not key.startswith("+") and key not in GROUPS and key not in keys:
            yield f"sweep.optuna.space has '{key}', and the config has no such key.{nearest(key, [*keys, *GROUPS])}"
        for problem in _parameter(parameter):
            yield f"sweep.optuna.space.{key}: {problem}"
    if {Cost.size_mb, Cost.latency_ms_p50} & set(search.minimize) and not config.deploy.formats:
        yield (
            "sweep.optuna.minimize: size and latency are those of the exported file, and deploy.formats=[] exports "
            "none. Use deploy.formats=[onnx], or minimize=[macs]."
        )


def _parameter(parameter: Parameter) -> Iterator[str]:
    low, high = parameter.low, parameter.high
    if parameter.choices:
        if low is not None or high is not None:
            yield "choices, or low and high; not both."
    elif low is None or high is None:
        yield "needs choices, or low and high."
    elif low >= high:
        yield f"low={low:g} must be below high={high:g}."
    elif parameter.log and low <= 0:
        yield f"low={low:g}: with log=true it must be above 0."
    elif parameter.log and parameter.step:
        yield "log=true has no steps. Use one of them."
    elif parameter.integer and not all(float(number or 1).is_integer() for number in (low, high, parameter.step)):
        yield "with integer=true low, high and step are whole numbers."
