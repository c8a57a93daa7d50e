"""A search space of the config in the words of Hydra's Optuna sweeper, and the values that the sweeper is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import config as cfg
from ..config.monitor import goal_of
from ..runs.result import Result
from ..terminal import MEANING, PLAIN, quoted


def directions(train: cfg.Train, minimize: list[cfg.Cost]) -> str | list[str]:
    """What the sweeper is to do with each value: first the monitored metric, then the costs."""
    first = "minimize" if goal_of(train.monitor, train.goal, train.metrics) is cfg.Goal.min else "maximize"
    return [first, *("minimize" for _ in minimize)] if minimize else first


def overrides(space: Mapping[str, cfg.Parameter]) -> list[str]:
    """A space in the grammar of Hydra's overrides."""
    return [f"{key}={_words(parameter)}" for key, parameter in space.items()]


def _words(parameter: cfg.Parameter) -> str:
    if parameter.choices:
        return ",".join(map(_literal, parameter.choices))
    kind = int if parameter.integer else float
    assert parameter.low is not None
    assert parameter.high is not None
    low, high = kind(parameter.low), kind(parameter.high)
    if parameter.step:
        return f"range({low},{high},{kind(parameter.step)})"
    words = f"interval({low},{high})"
    words = f"int({words})" if parameter.integer else words
    return f"tag(log,{words})" if parameter.log else words


def _literal(value: Any) -> str:
    """A value as an override has it."""
    match value:
        case list():
            return f"[{','.join(map(_literal, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
        case str() if PLAIN.fullmatch(value) and value.lower() not in MEANING:
            return value
        case str():
            return quoted(value)
    return json.dumps(value)


def values(search: cfg.Optuna, result: Result) -> float | list[float]:
    """What the sweeper is told of a finished run: the monitored metric, and the costs that should be small as well."""
    costs = [float(result.final[cost.name]) for cost in search.minimize]
    return [result.monitored, *costs] if costs else result.monitored
