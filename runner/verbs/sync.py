"""Delivering to MLflow what a server missed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from .. import config as cfg
from .. import files, runs
from ..config import store
from ..config.rules import validate
from ..errors import CheckpointError, ConfigError, ServerLost, UserError
from ..journal import CONFIG, JOURNAL, RESULT, TRACKING_LOCK, Journal, events
from ..locks import locked
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


def add_results(directory: Path, final: dict[str, float]) -> None:
    """Add to the final numbers of a finished run and deliver them; a server that is away gets them from `sync`."""
    # A directory that was fetched from MLflow has no journal: it ends with this process.
    if not final or not (directory / JOURNAL).is_file():
        return
    step = epoch = 0
    for event, _ in events(directory):
        if event["event"] == "metrics":
            step, epoch = event["step"], event["epoch"]
    name = os.path.relpath(directory)
    try:
        Journal(directory).metrics(step, epoch, {f"final/{key}": value for key, value in final.items()})
        if (directory / RESULT).is_file():
            result = json.loads((directory / RESULT).read_text(encoding="utf-8"))
            files.write_json(directory / RESULT, result | {"final": result["final"] | final})
        delivered = sync(directory, None, one_of_many=True)
    except OSError as error:
        print(f"{name} cannot be written ({error.strerror}): its latency is only shown here.", file=sys.stderr)
    except UserError as error:
        print(f"{name} is not delivered to MLflow: {error}", file=sys.stderr)
    else:
        if not delivered:
            print(f"MLflow does not have the latency yet. Later: python -m runner sync {name}", file=sys.stderr)
