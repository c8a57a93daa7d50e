"""The interface of trackers, and building one from its settings. Imports no MLflow and no TensorBoard."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Protocol

from .. import config as cfg
from ..config.addresses import require_store, sqlite_path
from ..errors import ConfigError
from ..runs.journal import MLFLOW
from . import custom, embedded, stores
from .answers import Refused


class Tracker(Protocol):
    """One run that is delivered to one place.

    The process that sends it may be killed at any moment, and another one continues: what was delivered is noted in a
    file of the run directory (`stores.Delivery`). After an error the same call is repeated later, unless it is a
    UserError other than ServerLost, which is final.
    """

    @property
    def place(self) -> str:
        """Where the run is sent, for people."""

    @property
    def behind(self) -> bool:
        """Whether the journal has something that was not delivered."""

    def check(self) -> None:
        """Check that the place accepts this run. Nothing is sent."""

    def replay(self) -> bool:
        """Deliver what the place lacks. Returns whether the run has ended."""

    def end(self, event: dict[str, Any]) -> None:
        """Deliver the end of a run whose journal could not record it."""


def build(
    directory: Path, config: cfg.Config, name: str, settings: cfg.Tracker, tell: Callable[[str], None]
) -> Tracker:
    """A run's tracker of that name, whose address was agreed to; `tell` reports what can never be sent."""
    match settings:
        case cfg.Mlflow():
            from .mlflow import Mirror

            return Mirror(directory, config, settings, tell)
        case cfg.Csv():
            from . import csv

            return csv.tracker(directory, name, settings)
        case cfg.TensorBoard():
            from . import tensorboard

            return tensorboard.tracker(directory, config, name, settings)
        case cfg.CustomTracker():
            return custom.Custom(directory, config, name, settings)
    raise AssertionError(settings)


def require(settings: cfg.Tracker) -> None:
    """Refuse, before anything is trained, a tracker that nothing could ever be sent to. Errors: ConfigError.

    A server that is away is none: it may come back.
    """
    for module, remedy in settings.packages.items():
        require_package(module, remedy)
    match settings:
        case cfg.Mlflow():
            require_store(settings.uri)
            if (path := sqlite_path(settings.uri)) is not None:
                _require_folder(path.parent, "tracking.uri=sqlite:///FILE")
                _require_embedded_store(path)
        case cfg.TensorBoard() if settings.folder is not None:
            _require_folder(Path(settings.folder), "folder=DIR")
        case cfg.CustomTracker():
            custom.require(settings.target, tuple(settings.kwargs))


def require_package(module: str, remedy: str) -> None:
    """Refuse a run that needs a module that is not installed. Errors: ConfigError."""
    if importlib.util.find_spec(module) is None and PathFinder.find_spec(module, [os.getcwd()]) is None:
        raise ConfigError(f"{module} is not installed: {remedy}")


def _require_folder(folder: Path, key: str) -> None:
    """Refuse a folder that cannot be made, because a file has its name or that of one above it."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise ConfigError(f"{there} is not a folder, and nothing can be written below it. Name another: {key}")


def _require_embedded_store(path: Path) -> None:
    """Refuse an embedded store that is something else; one that is locked or cannot be read now may work later."""
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder. Name a file: tracking.uri=sqlite:///FILE")
    if os.path.exists(path):
        try:
            embedded.check(path)
        except Refused as error:
            if not isinstance(error.__cause__, sqlite3.OperationalError):
                raise ConfigError(str(error)) from error


def begin(directory: Path, name: str, settings: cfg.Tracker) -> None:
    """Agree to the address in the config of the user's own command, for a run that will be trained."""
    record = stores.Delivery(directory, name)
    stores.remember(record.trained_into(settings.address))
    record.update(ended=False, refused="")


def agree(directory: Path, name: str, settings: cfg.Tracker, trust: bool = False) -> None:
    """Agree to the address of an existing run; with `trust` to any that it names.

    Errors: ConfigError for an address that only the run names.
    """
    record = stores.Delivery(directory, name)
    if trust and name != MLFLOW:
        stores.remember(record.trained_into(settings.address))
    record.sent_into(settings.address)
