"""Comparable results of earlier sweeps as initial trials of a search."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import config as cfg
from .. import runs
from ..config import store
from ..config.comparable import chooses_images
from ..config.keys import expanded
from ..config.rules.search import is_group
from ..errors import ConfigError, Damaged, UserError
from ..metrics.names import monitored
from ..runs import sweep
from ..runs.early_stopping import STOPPED_EARLY, Reading
from ..runs.journal import CONFIG
from ..runs.study import ORIGIN
from . import spaces
from .spaces import Unfit

#: Keys that have to be equal for the monitored metrics to be comparable, besides those that choose the images.
DECISIVE = ("train.epochs", "train.max_steps", "train.max_minutes", "data.image_size")
#: Keys that may differ without a word, besides those that are varied: they do not change what is computed, or are
#: compared elsewhere.
SILENT = (
    "name", "tracking.", "launch.", "sweep.", "deploy.", "debug.profile", "checkpoint.resume", "checkpoint.keep",
    "checkpoint.every", "train.log_every", "train.threads", "train.device", "train.accelerate", "train.plots",
    "train.callbacks", "train.monitor", "train.goal", "data.",
)  # fmt: skip


@dataclass
class Earlier:
    """What a search takes over from an earlier sweep."""

    trials: list[Any] = field(default_factory=list)
    """Jobs as `optuna.trial.FrozenTrial`."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why jobs were left out → how many."""
    differing: Counter[str] = field(default_factory=Counter)
    """Keys in which jobs that were taken differ from this search → how many."""


def trials(folder: Path, composed: Any, search: cfg.Optuna, space: spaces.Space) -> Earlier:
    """The jobs of an earlier sweep that compare with those of this search.

    `composed`: the config of all that is not varied. Errors: ConfigError if the folder is not a sweep's.
    """
    try:
        sweep.read(folder)
    except UserError as error:
        raise ConfigError(f"sweep.warm_start: {folder} is not the folder of a sweep. {error}") from error
    earlier = Earlier()
    for job in sweep.jobs(folder):
        try:
            leaves = store.leaves(store.read(job / CONFIG)) if (job / CONFIG).is_file() else {}
            earlier.trials.append(_trial(job, leaves, composed, search, space))
            earlier.differing.update(_differing(leaves, composed, space))
        except (Unfit, Damaged, ConfigError) as error:
            earlier.left_out[str(error).partition("\n")[0]] += 1
    return earlier


def _differing(leaves: Mapping[str, Any], composed: Any, space: spaces.Space) -> list[str]:
    """The keys in which a run differs from this search, other than those that are varied or of no account."""
    differing = [
        key for key, value in leaves.items()
        if not key.startswith(SILENT) and not _is_varied(key, space) and _plain(composed, key) != value
    ]  # fmt: skip
    # Another choice of a group has other keys below it.
    groups = tuple(f"{key.removesuffix('kind')}" for key in differing if key.endswith(".kind"))
    return [key.removesuffix(".kind") for key in differing if key.endswith(".kind") or not key.startswith(groups)]


def _is_varied(key: str, space: spaces.Space) -> bool:
    """Whether a key, or a group above it, is varied."""
    varied = [one.lstrip("+").partition(spaces.ENTRY)[0] for one in space]
    return any(key == one or key.startswith(f"{one}.") for one in varied)


def _trial(job: Path, leaves: Mapping[str, Any], composed: Any, search: cfg.Optuna, space: spaces.Space) -> Any:
    """A job with these values in its config. Errors: Unfit, Damaged, ConfigError."""
    from optuna.trial import TrialState

    state = runs.state(job)
    if state.status not in ("FINISHED", STOPPED_EARLY):
        raise Unfit(f"status {state.status}")
    config = store.read(job / CONFIG)
    train = store.train_of(composed)
    same = monitored(config.train.monitor) == monitored(train.monitor)
    if not same or spaces.directions(config.train, []) != spaces.directions(train, []):
        raise Unfit(f"train.monitor={config.train.monitor}")
    for key in (*DECISIVE, *filter(chooses_images, leaves)):
        wanted = _plain(composed, key)
        # Stored paths are expanded.
        same = leaves.get(key) in (wanted, expanded(wanted) if isinstance(wanted, str) else wanted)
        if not _is_varied(key, space) and not same:
            raise Unfit(f"{key} is {leaves.get(key)}, not {wanted}")
    written = {one.key_or_group: one for one in OverridesParser.create().parse_overrides(runs.overrides(job))}
    params = {key: _value(key, dimension, leaves, written) for key, dimension in space.items()}
    common = {
        "params": params, "distributions": {key: one.distribution() for key, one in space.items()},
        "user_attrs": {ORIGIN: str(job.resolve())},
    }  # fmt: skip
    if state.status == STOPPED_EARLY:
        values = Reading(job, f"val/{monitored(config.train.monitor)}").in_order()
        return _frozen_trial(state=TrialState.PRUNED, intermediate_values=dict(enumerate(values, 1)), **common)
    assert state.result
    return _frozen_trial(values=spaces.values(search, state.result), **common)


def _frozen_trial(**arguments: Any) -> Any:
    """An `optuna.trial.FrozenTrial`. Errors: Unfit if Optuna refuses it."""
    from optuna.trial import create_trial

    try:
        return create_trial(**arguments)
    except ValueError as error:
        raise Unfit(f"it does not fit the space: {error}") from error


def _plain(composed: Any, key: str) -> Any:
    """The value of a key in a stored config's spelling; None if it has none."""
    with contextlib.suppress(OmegaConfBaseException):
        value = OmegaConf.select(composed, key)
        return store.to_plain(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
    return None


def _value(key: str, dimension: spaces.Dimension, leaves: Mapping[str, Any], written: Mapping[str, Override]) -> Any:
    """A run's value of a key of the space, in Optuna's form. Errors: Unfit."""
    place, _, entry = key.lstrip("+").partition(spaces.ENTRY)
    value: Any
    if is_group(place):
        whole = written.get(place)
        value = whole.get_value_element_as_str() if whole else leaves.get(f"{place}.kind")
        shown = str(value)
    else:
        value = leaves.get(place)
        value = value.get(entry) if entry and isinstance(value, dict) else value
        shown = spaces.literal(value)
    if dimension.choices:
        if shown not in dimension.choices:
            raise Unfit(f"{key}={shown} is not among the choices")
        return shown
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unfit(f"no number for {key}")
    points = dimension.points()
    allowed = points or [min(max(value, dimension.low), dimension.high)]
    near = min(allowed, key=lambda point: abs(point - value))
    # Values of earlier versions may differ from a grid point by rounding.
    if not math.isclose(near, value, rel_tol=1e-9, abs_tol=1e-12):
        raise Unfit(f"{key}={value:g} is not in the space")
    return near
