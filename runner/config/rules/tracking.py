"""What must hold for trackers: addresses, and names that become files, models and texts in MLflow."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from ...errors import ConfigError
from .. import Config, Local, Mlflow
from ..addresses import require_address

#: Longest name of a registered model, and longest description, that all of MLflow's stores accept.
LONGEST_NAME, LONGEST_NOTE = 200, 5000
#: The letters of a tag's name that MLflow takes, its most letters, and those of its value that all stores accept.
TAG, LONGEST_TAG, LONGEST_VALUE = re.compile(r"[\w.:/ -]+"), 250, 5000
#: Tags by which a run is found and described; its own are not to be replaced.
OWN_TAG = re.compile(
    r"(mlflow|runner|resumed|checkpoint|configuration)(\.|$)|sweep\."
    r"|(mode|compression|model|data|amp|device|parameters|sweep_id|ended|run_dir)$"
)


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
    model = config.tracking.register if isinstance(config.tracking, Mlflow) else None
    if model is not None and (not re.fullmatch(r"\w[\w. -]*", model) or len(model) > LONGEST_NAME):
        yield (
            f"tracking.register={model!r}: it names a model in MLflow; use at most {LONGEST_NAME} letters, "
            "digits, spaces, '_', '-' and '.', such as tracking.register=defects"
        )
    addresses: dict[str, str] = {}
    for name, tracker in config.tracking.trackers.items():
        first = addresses.setdefault(tracker.address, name)
        if first != name:
            yield f"tracking.also.{name}: it has the same destination as {first}. Remove one of the two."


def address(config: Config) -> Iterator[str]:
    """Yields why nothing can be sent to an address."""
    if isinstance(config.tracking, Mlflow):
        try:
            require_address(config.tracking.uri)
        except ConfigError as error:
            yield str(error)


def texts(config: Config) -> Iterator[str]:
    """Yields which tags and which note MLflow does not take, or would mistake for the run's own."""
    tracking = config.tracking
    if not isinstance(tracking, Mlflow):
        return
    for tag, value in tracking.tags.items():
        if not TAG.fullmatch(tag) or posixpath.normpath(tag) != tag or len(tag) > LONGEST_TAG:
            yield (
                f"tracking.tags has {tag!r}: a tag's name has at most {LONGEST_TAG} letters, digits, spaces, '_', '-', "
                "'.', ':' and '/', such as +tracking.tags.team=optics"
            )
        elif OWN_TAG.match(tag):
            yield (
                f"tracking.tags has {tag!r}: the run has a tag of that name itself. Use another one, such as "
                f"+tracking.tags.my_{re.sub('[^A-Za-z0-9_]', '_', tag)}={value}"
            )
        elif len(value) > LONGEST_VALUE:
            yield f"tracking.tags.{tag} has {len(value)} characters; MLflow takes {LONGEST_VALUE} at most."
    if tracking.note is not None and len(tracking.note) > LONGEST_NOTE:
        yield f"tracking.note has {len(tracking.note)} characters; MLflow takes {LONGEST_NOTE} at most."
