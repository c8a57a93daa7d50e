"""What every tracker can do, and which one is built for which settings. Imports no MLflow and no TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .. import config as cfg
from ..runs.journal import MLFLOW
from . import stores


class Tracker(Protocol):
    """One run on its way to one place.

    The process that sends it may be killed at any moment, and another one goes on: what was delivered is noted in a
    file of the run directory (`stores.Tracked`). An error means that the same call comes again, later; one that is a
    UserError, and no ServerLost, that there is no use in it.
    """

    @property
    def place(self) -> str:
        """Where the run is sent, as a person knows it."""

    @property
    def behind(self) -> bool:
        """Whether the journal has something that was not delivered."""

    def check(self) -> None:
        """See that the place takes this run. Nothing is sent."""

    def replay(self) -> bool:
        """Deliver what the journal has and the place has not. Whether the run has ended."""

    def end(self, event: dict[str, Any]) -> None:
        """Deliver the end of a run whose journal could not take it."""


def build(
    directory: Path, config: cfg.Config, name: str, settings: cfg.Tracker, tell: Callable[[str], None]
) -> Tracker:
    """The tracker of that name of a run, whose address was agreed to; `tell` hears what cannot be sent at all."""
    match settings:
        case cfg.Mlflow():
            from .mirror import Mirror

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
    """Agree to the address that the config of the user's own command names, for a run that is to be trained."""
    record = stores.Tracked(directory, name)
    stores.remember(record.trained_into(settings.address))
    record.update(ended=False, refused="")


def agree(directory: Path, name: str, settings: cfg.Tracker, trust: bool = False) -> None:
    """Agree to the address of a run that is there, `trust` to any that it names.

    Errors: ConfigError for an address that only the run names.
    """
    record = stores.Tracked(directory, name)
    if trust and name != MLFLOW:
        stores.remember(record.trained_into(settings.address))
    record.sent_into(settings.address)
