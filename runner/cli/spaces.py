"""The search space: the typed space of the config and the command line's sweeps, as Optuna distributions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer, ValueType

from .. import config as cfg
from ..config.monitor import goal_of
from ..config.rules.search import is_group
from ..errors import ConfigError
from ..runs.result import Result
from ..terminal import MEANING, PLAIN, quoted

#: Between a key that holds a mapping and the entry of it that is varied.
ENTRY = "@"
#: Characters that Hydra's grammar escapes in the key of a mapping.
ESCAPED = re.compile(r"[\\()\[\]{}:=, \t]")


class Unfit(Exception):
    """A run is not a result of this search; the message says why."""


@dataclass(frozen=True)
class Dimension:
    """What one key is varied over: `choices`, as an override has them, or the numbers from `low` to `high`."""

    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    integer: bool = False

    def points(self) -> list[Any] | None:
        """All values up to `high`; None where there are infinitely many."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.integer and not self.log else None)
        if step is None:
            return None
        kind = int if self.integer else float
        # As the numbers are written: in binary 3 * 0.1 is above 0.3.
        low, high, distance = (Decimal(str(number)) for number in (self.low, self.high, step))
        last = int((high - low) / distance + Decimal("1e-9"))
        return [kind(min(low + place * distance, high)) for place in range(last + 1)]

    def ends(self) -> list[Any]:
        """The choices, or the lowest and the highest number."""
        if self.choices:
            return list(self.choices)
        kind = int if self.integer else float
        # The highest may be no step of the way.
        last = (self.points() or [])[-1:] if self.step else [kind(self.high)]
        return [kind(self.low), *last]

    def distribution(self) -> Any:
        """The Optuna distribution. Imports Optuna."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.integer:
            step = int(self.step or 1)
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def choose(self, trial: Any, name: str) -> Any:
        """The value in an `optuna.Trial`, suggested if it has none yet."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self.integer:
            step = int(self.step or 1)
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


#: Key, as an override has it → what it is varied over.
Space = dict[str, Dimension]


def of(space: Mapping[str, cfg.Parameter], parsed: Iterable[Override]) -> tuple[Space, list[str]]:
    """The space, and the overrides that are not varied. A key on the command line replaces that of the config's space.

    Errors: ConfigError for a sweep that a search cannot use.
    """
    parsed = list(parsed)
    own = {one.key_or_group for one in parsed}
    varied = {key: of_parameter(one) for key, one in space.items() if key.lstrip("+").partition(ENTRY)[0] not in own}
    fixed: list[tuple[str, str]] = []
    for one in parsed:
        key = one.get_key_element()
        name = key.lstrip("+~")
        # The last override of a key counts.
        varied = {other: dimension for other, dimension in varied.items() if other.lstrip("+") != name}
        if one.is_sweep_override():
            fixed = [(other, text) for other, text in fixed if other != name]
            varied[key] = of_override(one)
        else:
            fixed.append((name, f"{key}={one.get_value_element_as_str()}"))
    return varied, [text for _, text in fixed]


def read(space: Mapping[str, cfg.Parameter], overrides: list[str]) -> tuple[Space, list[str]]:
    """`of_command` for overrides as texts."""
    return of(space, OverridesParser.create().parse_overrides(overrides))


def of_parameter(one: cfg.Parameter) -> Dimension:
    """The variation of a key from the config."""
    if one.choices:
        return Dimension(choices=tuple(map(literal, one.choices)))
    assert one.low is not None
    assert one.high is not None
    return Dimension((), one.low, one.high, one.log, one.step, one.integer)


def of_override(one: Override) -> Dimension:
    """The variation of a swept override. Errors: ConfigError."""
    value: Any = one.value()
    if one.value_type is ValueType.INTERVAL_SWEEP:
        integer = isinstance(value.start, int) and isinstance(value.end, int)
        if value.start >= value.end:
            raise ConfigError(f"{one.input_line}: the interval is empty.")
        log = "log" in value.tags
        if log and value.start <= 0:
            raise ConfigError(
                f"{one.input_line}: with log the interval of {one.key_or_group} must begin above 0, not at "
                f"{value.start:g}. Give it a small number, such as 1e-5, or drop tag(log,…)."
            )
        return Dimension((), value.start, value.end, log, None, integer)
    if one.value_type is ValueType.RANGE_SWEEP and not value.shuffle:
        # As without a search, the stop of a range is not part of it.
        numbers: list[Any] = list(one.sweep_iterator())
        if not numbers:
            raise ConfigError(f"{one.input_line}: the range is empty.")
        integer = all(isinstance(number, int) for number in numbers)
        if len(numbers) > 1:
            return Dimension((), min(numbers), max(numbers), False, abs(value.step), integer)
    if one.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise ConfigError(f"{one.input_line}: a search needs the choices by their names, separated by commas.")
    texts = dict.fromkeys(str(text) for text in one.sweep_iterator(transformer=Transformer.encode))
    return Dimension(choices=tuple(texts))


def literal(value: Any) -> str:
    """A value as an override has it."""
    match value:
        case list():
            return f"[{','.join(map(literal, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
        case str() if PLAIN.fullmatch(value) and value.lower() not in MEANING:
            return value
        case str():
            return quoted(value)
    return json.dumps(value)


def overrides(chosen: Mapping[str, Any]) -> list[str]:
    """The overrides of a job with chosen values; entries of one mapping become one override."""
    texts: dict[str, str] = {}
    entries: dict[str, dict[str, str]] = {}
    for key, value in chosen.items():
        text = value if isinstance(value, str) else repr(value)
        place, _, entry = key.partition(ENTRY)
        if entry and not is_group(place.lstrip("+")):
            entries.setdefault(place, {})[entry] = text
        else:
            texts[key] = text
    for place, of_place in entries.items():
        texts[place] = "{" + ",".join(f"{ESCAPED.sub(_escape, entry)}:{text}" for entry, text in of_place.items()) + "}"
    return [f"{key}={text}" for key, text in texts.items()]


def _escape(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def refuse(options: cfg.Optuna, space: Space) -> None:
    """Errors: ConfigError for a space that the sampler cannot search."""
    sampler = f"sweep.optuna.sampler={options.sampler.name}"
    if not space:
        raise ConfigError(
            "sweep.optuna.space is empty: nothing would be varied. Choose a preset such as +sweep/optuna=optimizer, or "
            "say what to vary, such as 'optimizer.lr=tag(log,interval(0.001,0.1))'"
        )
    if options.sampler is cfg.SearchSampler.grid and (
        endless := [key for key, one in space.items() if not one.points()]
    ):
        raise ConfigError(f"{sampler}: {', '.join(endless)} may be any number in between. Give it choices or a step.")
    if options.sampler is not cfg.SearchSampler.cmaes:
        return
    if options.minimize:
        raise ConfigError(f"{sampler} has one goal, and sweep.optuna.minimize adds others. Use nsgaii.")
    if choices := [key for key, one in space.items() if one.choices]:
        raise ConfigError(f"{sampler} varies numbers alone, and {', '.join(choices)} has choices. Use tpe.")
    if len(space) < 2:
        raise ConfigError(f"{sampler} needs at least two numbers to vary. Use tpe.")


def to_json(space: Space) -> str:
    """The space as text, to detect changes."""
    return json.dumps({key: asdict(dimension) for key, dimension in space.items()}, sort_keys=True)


def directions(train: cfg.Train, minimize: Iterable[cfg.Cost]) -> list[str]:
    """`maximize` or `minimize` for each of the `values`."""
    first = "minimize" if goal_of(train.monitor, train.goal, train.metrics) is cfg.Goal.min else "maximize"
    return [first, *("minimize" for _ in minimize)]


def values(search: cfg.Optuna, result: Result) -> list[float]:
    """The objectives of a finished run: its monitored metric, and the costs to minimize; all are finite.

    Errors: Unfit if it lacks a cost, as without an exported file, or one of them is not a number.
    """
    costs = [cost.name for cost in search.minimize]
    if missing := [name for name in costs if name not in result.final]:
        raise Unfit(f"no {', '.join(missing)}")
    named = {"the monitored metric": result.monitored} | {name: float(result.final[name]) for name in costs}
    if endless := [name for name, value in named.items() if not math.isfinite(value)]:
        raise Unfit(f"{endless[0]} is not a number")
    return list(named.values())
