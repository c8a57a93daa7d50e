"""Early checks that a run's images and weights exist, and that its trackers can work."""

from __future__ import annotations

from collections.abc import Sequence

from .. import config as cfg
from ..runs import named
from ..tracking import tracker


def refuse_missing(config: cfg.Config) -> None:
    """Refuse a run whose images, weights or trackers are missing. Errors: DataError, CheckpointError, ConfigError."""
    refuse_unusable_trackers(config)
    refuse_missing_data(config)
    named.refuse_missing_weights(config)


def refuse_unusable_trackers(config: cfg.Config) -> None:
    """Refuse a run with a tracker that would never receive anything from this machine. Errors: ConfigError."""
    for settings in config.tracking.trackers.values():
        tracker.require(settings)


def refuse_missing_data(config: cfg.Config, trained_classes: Sequence[str] = ()) -> None:
    """Refuse a set whose folder, lists or files are missing, with the errors that loading it would raise.

    `trained_classes` are those of networks that are only evaluated. Errors: DataError.
    """
    if isinstance(config.data, (cfg.Pictures, cfg.Files)):
        # NumPy and Pillow take a fifth of a second to import.
        from ..data import sources

        sources.refuse_missing(config.data, trained_classes)
