"""Early checks that what a run needs is there. No Paddle."""

from __future__ import annotations

from collections.abc import Sequence

from .. import config as cfg
from .. import device
from ..config import networks
from ..config.keys import walk
from ..config.rules.devices import without_gpu, without_mixed_precision
from ..errors import ConfigError
from ..runs import named
from ..tracking import tracker


def refuse_missing(config: cfg.Config) -> None:
    """Refuse a run whose device, packages, trackers, images or weights are missing.

    Importing Paddle to say so would take seconds. Errors: ConfigError, DataError, CheckpointError.
    """
    _refuse_missing_device(config)
    _refuse_missing_package(config)
    refuse_unusable_trackers(config)
    refuse_missing_data(config)
    named.refuse_missing_weights(config)
    for model in named.published(config):
        from ..checkpoints import imagenet

        imagenet.source_of(model)


def _refuse_missing_device(config: cfg.Config) -> None:
    on_cpu = device.is_cpu_build()
    problems = [*without_gpu(config.train, config.launch.devices)] if on_cpu else []
    problems += without_mixed_precision(config.amp) if on_cpu or config.train.device is cfg.Device.cpu else ()
    for problem in problems:
        raise ConfigError(problem)


def _refuse_missing_package(config: cfg.Config) -> None:
    if any(isinstance(part, cfg.PaddleClas) for _, _, part, _ in walk(config)):
        for problem in networks.without_paddleclas():
            raise ConfigError(problem)


def refuse_unusable_trackers(config: cfg.Config) -> None:
    """Refuse a run with a tracker that would never receive anything from this machine. Errors: ConfigError."""
    for name, settings in config.tracking.trackers.items():
        try:
            tracker.require(settings)
        except ConfigError as error:
            where = "" if isinstance(settings, cfg.Mlflow) else f"tracking.also.{name}: "
            raise ConfigError(f"{where}{error}") from error


def refuse_missing_data(config: cfg.Config, trained_classes: Sequence[str] = ()) -> None:
    """Refuse a set whose folder, lists or files are missing, with the errors that loading it would raise.

    `trained_classes` are those of networks that are only evaluated. Errors: DataError.
    """
    if isinstance(config.data, (cfg.Pictures, cfg.Files)):
        # NumPy and Pillow take a fifth of a second to import.
        from ..data import sources

        sources.refuse_missing(config.data, trained_classes)
