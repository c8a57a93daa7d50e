"""What must hold for a search by Optuna beyond its types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import get_origin

from ...errors import ConfigError, nearest
from .. import GROUPS, Config, Cost, CustomData, Deploy, Parameter, Pictures, Pruner, SearchSampler
from ..deploy import RUN_BY_ENGINES
from ..keys import types_of, walk

#: A character that no key of a mapping in an override can have: Hydra's grammar has it only in quotes, and keys are
#: unquoted.
UNTYPEABLE = re.compile(r"[^A-Za-z0-9_\-/+.$%*@?|\\()\[\]{}:=, \t]")
#: Numbers as Hydra reads them, and what it does not read as text.
NUMBER = r"[0-9](_?[0-9])*"
MEANING = re.compile(
    rf"true|false|null|[+-]?(nan|inf|{NUMBER}|({NUMBER}\.?|({NUMBER})?\.{NUMBER})(e[+-]?{NUMBER})?)",
    re.IGNORECASE | re.ASCII,
)


def refuse_search(config: Config) -> None:
    """Refuse a search that cannot work. Errors: ConfigError."""
    for problem in problems(config):
        raise ConfigError(problem)


def is_group(place: str) -> bool:
    """Whether a key of a space is a config group: one with schemas of its own, or a part of the config."""
    return place in GROUPS or any(one.name == place and is_dataclass(one.type) for one in fields(Config))


def problems(config: Config) -> Iterator[str]:
    """Yields what is wrong with a search."""
    search = config.sweep.optuna
    yield from _pruner(config)
    if search is None:
        return
    if config.sweep.warm_start and search.sampler is not SearchSampler.tpe:
        yield (
            f"sweep.warm_start: {search.sampler.name} cannot learn from the trials of other searches. "
            "Use sweep.optuna.sampler=tpe, or remove it."
        )
    keys = [key for key, *_ in walk(config)]
    for key, parameter in search.space.items():
        place, _, entry = key.partition("@")
        # Keys that only some choices have are added with `+`, as on the command line.
        if not key.startswith("+") and not is_group(place) and place not in keys:
            yield f"sweep.optuna.space has '{place}', and the config has no such key.{nearest(place, [*keys, *GROUPS])}"
        elif entry and not is_group(place) and not any(get_origin(one) is dict for one in types_of(place.lstrip("+"))):
            yield f"sweep.optuna.space has '{key}', and {place} is not a mapping."
        elif entry and not is_group(place):
            yield from _entry(key, entry)
        for problem in _parameter(parameter):
            yield f"sweep.optuna.space.{key}: {problem}"
    yield from _costs(search.minimize, config.deploy)


def measured(deploy: Deploy) -> set[Cost]:
    """The costs that runs with these settings have."""
    costs = {Cost.params, Cost.macs}
    if RUN_BY_ENGINES.intersection(deploy.formats):
        costs |= {Cost.size_mb, Cost.latency_ms_p50} if deploy.bench_s else {Cost.size_mb}
    return costs


def _costs(minimize: Sequence[Cost], deploy: Deploy) -> Iterator[str]:
    """Yields why no run can have the costs that a search minimizes."""
    if not (missing := [cost.name for cost in minimize if cost not in measured(deploy)]):
        return
    if RUN_BY_ENGINES.intersection(deploy.formats):
        yield (
            f"sweep.optuna.minimize: {', '.join(missing)} needs a measurement, and deploy.bench_s=0 turns it off. Use "
            "deploy.bench_s=0.3, or minimize=[macs]."
        )
    else:
        yield (
            f"sweep.optuna.minimize: {', '.join(missing)} would be of an exported file that an engine runs, and "
            f"deploy.formats=[{','.join(one.name for one in deploy.formats)}] exports none. Use deploy.formats=[onnx], "
            "or minimize=[macs]."
        )


def _entry(key: str, entry: str) -> Iterator[str]:
    """Yields why a pattern cannot be the key of a mapping in a job's override."""
    if unknown := UNTYPEABLE.search(entry):
        yield (
            f"sweep.optuna.space has '{key}', and a job's override has no {unknown[0]!r} in a mapping's key. Write ? "
            "for this one character, or * for any number of them."
        )
    elif MEANING.fullmatch(entry):
        yield (
            f"sweep.optuna.space has '{key}', and {entry} is not text in a job's override. Write "
            f"{key.partition('@')[0]}@[{entry[0]}]{entry[1:]}, which is the same pattern."
        )


def _pruner(config: Config) -> Iterator[str]:
    pruner, search = config.sweep.pruner, config.sweep.optuna
    if pruner is Pruner.none:
        return
    if search and search.minimize:
        yield (
            f"sweep.pruner={pruner.name} ends runs by one metric, and sweep.optuna.minimize has further goals, which "
            "only finished runs have. Use sweep.pruner=none."
        )
    prune = config.compression.prune
    if prune and prune.begin_epoch is not None:
        yield (
            f"sweep.pruner={pruner.name} compares validations, and with compression.prune.begin_epoch="
            f"{prune.begin_epoch} those before the last cut decide nothing. Use sweep.pruner=none, or prune before "
            "training: compression.prune.begin_epoch=null"
        )
    data = config.data
    may_have_its_own = isinstance(data, (Pictures, CustomData))
    if not (data.val_fraction or data.folds or may_have_its_own):
        yield (
            f"sweep.pruner={pruner.name} ends runs by {config.train.monitor}, and this data has no validation images. "
            "Hold some out (data.val_fraction=0.1), or use sweep.pruner=none."
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
        yield "with integer=true low, high and step must be integers."
