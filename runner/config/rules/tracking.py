"""What must hold for trackers: addresses, and names that become files, models and texts in MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import Config, Local, Mlflow
from ..addresses import require_address

#: Longest name of a registered model, and longest description, that all of MLflow's stores accept.
LONGEST_NAME, LONGEST_NOTE = 200, 5000


def problems(config: Config) -> Iterator[str]:
    """Yields what is wrong with the trackers."""
    for name, tracker in config.tracking.also.items():
        if name == "mlflow" or not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            yield (
                f"tracking.also.{name}: it names files. Use small letters, digits, '_' and '-', and not 'mlflow', such "
                f"as +tracking@tracking.also.mine={tracker.kind}"
            )
    if config.tracking.system_metrics and isinstance(config.launch, Local) and config.launch.inline:
        yield "tracking.system_metrics=true measures in the command, and launch.inline=true trains in it. Remove one."
    if isinstance(config.tracking, Mlflow):
        yield from _mlflow(config.tracking)
    addresses: dict[str, str] = {}
    for name, tracker in config.tracking.trackers.items():
        first = addresses.setdefault(tracker.address, name)
        if first != name:
            yield f"tracking.also.{name}: it has the same destination as {first}. Remove one of the two."


def check_address(config: Config) -> None:
    """Refuse an address that nothing can be sent to; runs that were stored with one can still be read.

    Errors: ConfigError.
    """
    if isinstance(config.tracking, Mlflow):
        require_address(config.tracking.uri)


def _mlflow(tracking: Mlflow) -> Iterator[str]:
    name = tracking.register
    if name is not None and (not re.fullmatch(r"\w[\w. -]*", name) or len(name) > LONGEST_NAME):
        yield (
            f"tracking.register={name!r}: it names a model in MLflow; use at most {LONGEST_NAME} letters, "
            "digits, spaces, '_', '-' and '.', such as tracking.register=defects"
        )
    if tracking.note is not None and len(tracking.note) > LONGEST_NOTE:
        yield f"tracking.note has {len(tracking.note)} characters; MLflow takes {LONGEST_NOTE} at most."
