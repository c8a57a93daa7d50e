"""Delivering to MLflow what a server missed."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from .. import config as cfg
from .. import runs
from ..config import store
from ..config.rules import validate
from ..errors import CheckpointError, ConfigError, ServerLost
from ..journal import CONFIG, TRACKING_LOCK, locked
from ..tracking.mirror import Mirror


def main(arguments: list[str]) -> int:
    """`sync RUN… [--uri URI]`; a folder stands for all runs below it."""
    parser = argparse.ArgumentParser(
        prog="runner sync", description="Send MLflow what it has not got of some runs. Nothing is sent twice."
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", default=["outputs"], help="run directories, or folders of them"
    )
    parser.add_argument("--uri", help="another store or server than the run's own; it gets all of the run")
    options = parser.parse_args(arguments)
    places = {directory: place for place in map(Path, options.runs) for directory in _below(place)}
    behind = [directory for directory, place in places.items() if not sync(directory, options.uri, place != directory)]
    if behind:
        raise ServerLost(
            f"Not delivered: {', '.join(map(os.path.relpath, behind))}. Is the server up? The same command again "
            "sends the rest."
        )
    return 0


def _below(place: Path) -> list[Path]:
    found = [directory for directory in runs.find(place) if (directory / CONFIG).is_file()] if place.is_dir() else []
    if not found:
        raise CheckpointError(f"{place}: there is no run. `python -m runner runs` lists those of this folder.")
    return found


def sync(directory: Path, uri: str | None, one_of_many: bool) -> bool:
    """Bring MLflow up to date with one run. Whether everything was delivered.

    Errors: ConfigError for a run without tracking, unless it is one of those below a folder.
    """
    name = os.path.relpath(directory)
    config = store.read(directory / CONFIG)
    tracking = config.tracking if isinstance(config.tracking, cfg.Mlflow) else None
    if uri:
        tracking = replace(tracking or cfg.Mlflow(), uri=uri)
        validate(replace(config, tracking=tracking))
    if tracking is None and one_of_many:
        print(f"{name}: trained with tracking=none")
        return True
    if tracking is None:
        raise ConfigError(f"{name} was trained with tracking=none. Say where it should go: --uri URI")
    with locked(directory / TRACKING_LOCK, patience_s=0) as lock:
        if lock is None:
            print(f"{name}: its own process delivers it right now")
            return True
        runs.close_lost(directory)
        mirror = Mirror(directory, config, tracking)
        try:
            mirror.check()
            if not mirror.behind:
                print(f"{name}: up to date")
                return True
            mirror.replay()
        except Exception as error:
            print(f"{name}: {str(error).partition(chr(10))[0]}")
            return False
    print(f"{name}: delivered to {tracking.uri}")
    return True
