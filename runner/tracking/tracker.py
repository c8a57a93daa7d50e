"""The interface of trackers, and building one from its settings. Imports no MLflow and no TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .. import config as cfg
from ..runs.journal import MLFLOW
from . import stores


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
            from .custom import Custom

            return Custom(directory, config, name, settings)
    raise AssertionError(settings)


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
