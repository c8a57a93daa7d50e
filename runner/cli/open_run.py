"""Opens the run of a verb: its directory and config; warns if the config was edited."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import device, files, runs, stored
from ..config import store
from ..config.addresses import KEY
from ..config.keys import expanded
from ..errors import CheckpointError, ConfigError
from ..files.digests import text_digest
from ..launch.missing import refuse_missing_data
from ..runs.journal import CONFIG, WITH_CONFIG, latest
from ..tracking import lookup

#: The override that allows calls of code that a run names.
TRUST = "trust=true"
#: How overrides begin that change nothing of a network that was trained.
OF_TRAINING = (
    "optimizer.", "schedule.", "loss.", "mimic.", "features.", "augment.", "checkpoint.", "sweep.",
    *(f"train.{key}=" for key in (
        "epochs", "max_steps", "max_minutes", "accumulate", "ema", "ema_warmup", "patience", "min_delta", "eval_every",
        "eval_every_steps", "log_every", "sync_batchnorm", "plots", "explain",
    )),
)  # fmt: skip


def find_run(run: str, overrides: list[str]) -> tuple[Path, cfg.Config]:
    """The directory of a run and its config with some `key=value` changed, for reading. Errors: as in `open_run`."""
    for text in overrides:
        if text.startswith("trust=") and text != TRUST:
            raise ConfigError(f"{text}: trust takes only true, {TRUST}. It allows the run's own code to be called.")
    uri, others = uri_of(overrides)
    of_config = [text for text in others if text != TRUST]
    directory = lookup.directory_of(run, uri)
    files.refuse_links(directory)
    return directory, store.read(directory / CONFIG, of_config)


def uri_of(overrides: list[str]) -> tuple[str, list[str]]:
    """Where overrides say that MLflow run ids are looked up, and all other overrides."""
    others = [text for text in overrides if not text.startswith(KEY)]
    uris = [expanded(text.removeprefix(KEY)) for text in overrides if text not in others]
    return (uris or [cfg.Mlflow.uri])[0], others


def open_run(run: str, overrides: list[str], sees_data: bool = False) -> tuple[Path, cfg.Config]:
    """The directory of a run and its config with some `key=value` changed, for using the network.

    `trust=true` among them allows the `custom` targets of the config. The images must exist if the caller `sees` them
    or the overrides name them. Errors: CheckpointError, ConfigError, DataError.
    """
    directory, config = find_run(run, overrides)
    untrusted = [text for text in overrides if text != TRUST]
    _tell_of_changes(directory)
    if idle := [text for text in untrusted if text.startswith(OF_TRAINING)]:
        print(f"{', '.join(idle)}: of training only, so nothing changes here.", file=sys.stderr)
    if getattr(config.data, "download", False) and "data.download=true" not in untrusted:
        # The run's author asked for the download; the user of this verb did not.
        config = replace(config, data=replace(config.data, download=False))  # type: ignore[call-arg]
    if (targets := targets_of(config)) and untrusted == overrides:
        raise ConfigError(
            f"{run} uses code of its own, {', '.join(targets)}, which would be imported and called. If you trust "
            f"whoever made that run, add: {TRUST}"
        )
    if (sees_data or any(text.startswith("data.") for text in untrusted)) and (classes := classes_of(directory)):
        refuse_missing_data(config, classes)
    device.load_paddle(config.train.threads)
    return directory, config


def targets_of(config: cfg.Config) -> list[str]:
    """The code of a run's own that its networks and data call, which needs `TRUST`. Verbs create no trackers."""
    leaves = {key: value for key, value in store.leaves(config).items() if not key.startswith("tracking.")}
    return [value for key, value in leaves.items() if key.endswith(".target") and value is not None]


def runs_below(place: Path, is_wanted: Callable[[Path], bool] = lambda directory: True) -> list[Path]:
    """The runs in a folder, or the one that it is. Errors: CheckpointError where none is wanted."""
    directories = [directory for directory in runs.find(place) if is_wanted(directory)] if place.is_dir() else []
    if not directories:
        raise CheckpointError(f"{place}: no run was found. `python -m runner runs` lists those of this folder.")
    return directories


def classes_of(directory: Path) -> list[str]:
    """The classes in a run's journal; empty if it does not have all of them. Errors: Damaged."""
    about: dict[str, Any] = next((event.get("about", {}) for event in latest(directory, ("dataset",))), {})
    names = [*about.get("classes", {})]
    return names if len(names) == about.get("class_count") else []


def _tell_of_changes(directory: Path) -> None:
    """Warn if the config is not the one that was trained with. Errors: Damaged."""
    begun = next(latest(directory, WITH_CONFIG), None)
    text = stored.read_text(directory / CONFIG) or ""
    if begun and begun.get("config", text_digest(text)) != text_digest(text):
        print(f"{directory / CONFIG} was changed after the run began: numbers may not be the run's.", file=sys.stderr)
