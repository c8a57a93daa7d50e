"""Refuses settings of a sweep that do not suit what it varies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from .. import config as cfg
from ..config import store
from ..config.comparable import moves_validations
from ..config.keys import expanded
from ..errors import ConfigError
from ..runs.journal import SWEEP
from ..runs.swept import REPEATS
from .config_dir import config_dir

#: Most keys that are named in which the choices of a group differ.
NAMED = 3
#: Key, as an override has it → its values, as overrides have them; none for a range of numbers.
Varied = Mapping[str, Sequence[str]]


def varied_by(swept: Sequence[Override]) -> Varied:
    """What overrides sweep."""
    return {
        one.get_key_element(): [*map(str, one.sweep_iterator(transformer=Transformer.encode))]
        if one.is_choice_sweep()
        else []
        for one in swept
    }


def refuse(settings: Any, train: Any, varied: Varied, fixed: Sequence[str]) -> None:
    """Refuse settings below `sweep` that do not suit what is varied.

    `train`: of what is not varied; `fixed`: the overrides that all jobs share. Errors: ConfigError.
    """
    if settings.pruner is not cfg.Pruner.none:
        _refuse_pruner(settings.pruner, bool(train.eval_every_steps), varied, fixed)
    for key in ("max_minutes", "warm_start"):
        if not settings.optuna and getattr(settings, key):
            raise ConfigError(f"sweep.{key} is for searches: this sweep runs all its jobs. Remove it.")
    for text in settings.warm_start:
        if not (Path(expanded(text)) / SWEEP).is_file():
            raise ConfigError(f"sweep.warm_start: {text} is not the folder of a sweep: it has no {SWEEP}.")


def _refuse_pruner(pruner: cfg.Pruner, counts_steps: bool, varied: Varied, fixed: Sequence[str]) -> None:
    """Refuse a pruner whose runs would not compare. Errors: ConfigError."""
    keys = {key: key.lstrip("+~").partition("@")[0] for key in varied}
    if repeating := [name for name in keys.values() if name in REPEATS]:
        raise ConfigError(
            f"sweep.pruner={pruner.name} would end the worst runs of each configuration, "
            f"which biases the means of the others: {', '.join(repeating)} is varied. Use sweep.pruner=none."
        )
    moving = [name for name in keys.values() if moves_validations(name, counts_steps)]
    why = f"{', '.join(moving)} is varied" if moving else ""
    for key, name in keys.items():
        if not why and (differing := _moved_by_choices(key, varied[key], fixed)):
            more = ", …" if len(differing) > NAMED else ""
            why = f"{name} is varied, whose choices differ in {', '.join(differing[:NAMED])}{more}"
    if why:
        raise ConfigError(
            f"sweep.pruner={pruner.name} compares runs after as many validations, and those of different "
            f"runs do not compare: {why}. Use sweep.pruner=none."
        )


def _moved_by_choices(key: str, choices: Sequence[str], fixed: Sequence[str]) -> list[str]:
    """The keys that move validations and in which the choices of a group differ, such as those of recipes."""
    group = key.lstrip("+")
    # Choices of the schema's groups set keys of their own, of which that of `data` moves validations by its name.
    if "." in group or group in (*cfg.GROUPS, "name"):
        return []
    composed = [*_composed((f"{key}={choice}" for choice in choices), fixed)]
    counts_steps = any(leaves.get("train.eval_every_steps") for leaves in composed)
    names = dict.fromkeys(name for leaves in composed for name in leaves if moves_validations(name, counts_steps))
    return [name for name in names if len({str(leaves.get(name)) for leaves in composed}) > 1]


def _composed(choices: Iterable[str], fixed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The leaves of what all jobs share with each of some choices, as far as Hydra composes it."""
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        for choice in choices:
            # What is invalid only without the rest that is varied is checked in each job.
            with contextlib.suppress(HydraException, OmegaConfBaseException):
                yield store.written_leaves(hydra.compose("config", [*fixed, choice]))
