"""Delivering to MLflow what a server missed."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from ... import config as cfg
from ... import files, runs, stored
from ...config import store
from ...config.rules import validate
from ...errors import CheckpointError, ConfigError, Damaged, ForeignPath, RunFailed, ServerLost, UserError
from ...processes import locked
from ...runs.journal import CHECKPOINTS, CONFIG, JOURNAL, RESULT, TRACKING_LOCK, Journal, events
from ...tracking import stores
from ...tracking.answers import Refused, is_final, said
from ...tracking.mirror import Mirror


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
    failures = {}
    for directory, place in places.items():
        try:
            _sync(directory, options.uri, place != directory)
        except UserError as error:
            failures[os.path.relpath(directory)] = error
            if len(places) > 1:
                word = "DAMAGED " if isinstance(error, Damaged | ForeignPath) else ""
                print(f"{os.path.relpath(directory)}: {word}{error}")
    if len(places) == 1 and failures:
        raise next(iter(failures.values()))
    if failures:
        remedy = "The reasons are given above; repeat the command to send the rest."
        first = next(iter(failures.values()))
        raise RunFailed(f"Not delivered: {', '.join(failures)}. {remedy}", first.exit_code)
    return 0


def _below(place: Path) -> list[Path]:
    found = [directory for directory in runs.find(place) if _is_run(directory)] if place.is_dir() else []
    if not found:
        raise CheckpointError(f"{place}: no run was found. `python -m runner runs` lists those of this folder.")
    return found


def _is_run(directory: Path) -> bool:
    # A job of a sweep that could not be started has neither. What cannot be entered is named later.
    has_begun = any(os.path.lexists(directory / name) for name in (CONFIG, CHECKPOINTS))
    return has_begun or not os.access(directory, os.X_OK)


def _sync(directory: Path, uri: str | None, one_of_many: bool) -> None:
    try:
        sync(directory, uri, one_of_many)
    except OSError as error:
        # Of somebody else's run, say: the others are sent all the same.
        raise files.disk_error(error) from error


def sync(directory: Path, uri: str | None, one_of_many: bool) -> None:
    """Bring the store of a run up to date with it, or another one, which has to be named by whoever calls.

    Errors: ConfigError for a run without tracking, unless it is one of those below a folder, and for a store that only
    the run names; ServerLost where it was not delivered, Refused where that will stay so.
    """
    name = os.path.relpath(directory)
    files.refuse_links(directory)
    config = store.read(directory / CONFIG)
    settings = config.tracking if isinstance(config.tracking, cfg.Mlflow) else None
    if uri:
        settings = replace(settings or cfg.Mlflow(), uri=uri)
        validate(replace(config, tracking=settings))
    if settings is None and one_of_many:
        print(f"{name}: trained with tracking=none")
        return
    if settings is None:
        raise ConfigError(f"{name} was trained with tracking=none. Say where it should go: --uri URI")
    with locked(directory / TRACKING_LOCK, patience_s=0) as lock:
        if lock is None:
            print(f"{name}: its own process delivers it right now")
            return
        known = stores.Tracked(directory)
        if uri:
            stores.remember(known.go_to(uri))
        else:
            known.sent_into(settings.uri)
        runs.close_lost(directory)
        _deliver(name, Mirror(directory, config, settings, lambda text: print(f"{name}: {text}")))


def _deliver(name: str, mirror: Mirror) -> None:
    try:
        mirror.check()
        if not mirror.behind:
            print(f"{name}: up to date")
            return
        mirror.replay()
    except UserError:
        raise
    except Exception as error:
        kind = Refused if is_final(error) else ServerLost
        remedy = "" if is_final(error) else " Is the server up? Repeat the command to send the rest."
        raise kind(f"{name} was not delivered to {mirror.uri}: {said(error)}.{remedy}") from error
    print(f"{name}: delivered to {mirror.uri}")


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
        if result := stored.result(directory / RESULT):
            files.write_json(directory / RESULT, result | {"final": result["final"] | final})
        sync(directory, None, one_of_many=True)
    except OSError as error:
        print(f"{name} cannot be written ({error.strerror}): its latency is only shown here.", file=sys.stderr)
    except UserError as error:
        print(f"MLflow does not have the latency yet: {error}", file=sys.stderr)
