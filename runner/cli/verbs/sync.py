"""Delivers missing events to trackers."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from ... import config as cfg
from ... import files, runs
from ...config import store
from ...config.addresses import require_store
from ...config.keys import expanded
from ...config.rules import validate
from ...errors import ConfigError, Damaged, ForeignPath, RunFailed, ServerLost, UserError
from ...files.disk_errors import disk_error
from ...processes import locked
from ...report import subject
from ...runs import result as results
from ...runs import summary, sweep
from ...runs.events import is_of_training
from ...runs.journal import CHECKPOINTS, CONFIG, JOURNAL, MLFLOW, RESULT, Journal, latest, tracking_lock
from ...tracking import stores
from ...tracking.answers import Refused, is_final, reason_of
from ...tracking.tracker import Tracker, agree, build
from .. import summary_run
from ..open_run import runs_below


def main(arguments: list[str]) -> int:
    """`sync RUN… [--uri URI] [--trust]`; a folder stands for all runs below it."""
    parser = argparse.ArgumentParser(
        prog="runner sync", description="Send trackers what they are missing of some runs. Nothing is sent twice."
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", default=["outputs"], help="run directories, or folders of them"
    )
    parser.add_argument(
        "--uri", type=expanded, help="another store or server of MLflow than the run's own; it gets the whole run"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="write to the folders that the runs' trackers name, and import their code: trusts the runs' authors",
    )
    options = parser.parse_args(arguments)
    if options.uri:
        # Before a run is given to it, and it is remembered.
        require_store(options.uri, "--uri ")
    named = [place.parent if summary.is_summary(place) else place for place in map(Path, options.runs)]
    places = {directory: place for place in named for directory in runs_below(place, _is_run)}
    # First: what the runs of a sweep are folded below.
    places = _summaries(places, options.uri) | places
    failures = {}
    for directory, place in places.items():
        try:
            _sync(directory, options.uri, place != directory, options.trust)
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


def _summaries(places: dict[Path, Path], uri: str | None) -> dict[Path, Path]:
    """The summaries of the sweeps below folders, up to date with the runs: summary → the folder that was named."""
    swept = {job.parent: place for job, place in places.items() if place != job and sweep.is_swept(job)}
    summaries = {}
    for directory, place in swept.items():
        try:
            if (folder := summary_run.update(directory, subject.jobs(directory), uri)) is not None:
                summaries[folder] = place
        except (OSError, UserError) as error:
            print(f"{os.path.relpath(directory)}: no summary: {error}", file=sys.stderr)
    return summaries


def _is_run(directory: Path) -> bool:
    # A job that could not be started has neither. Unreadable folders are reported later.
    has_begun = any(os.path.lexists(directory / name) for name in (CONFIG, CHECKPOINTS))
    return has_begun or not os.access(directory, os.X_OK)


def _sync(directory: Path, uri: str | None, one_of_many: bool, trust: bool) -> None:
    try:
        sync(directory, uri, one_of_many, trust)
    except OSError as error:
        # Such as of a foreign run: the others are still sent.
        raise disk_error(error, directory, "") from error


def sync(directory: Path, uri: str | None, one_of_many: bool, trust: bool = False) -> None:
    """Bring the trackers of a run up to date, or the MLflow store that the caller names.

    Errors: ConfigError for a run without tracking, unless it is one of those below a folder, and for an address that
    only the run names; ServerLost if delivery failed, Refused if retrying is useless. The other trackers are up to date
    then.
    """
    name = os.path.relpath(directory)
    files.refuse_links(directory)
    config = store.read(directory / CONFIG)
    trackers = config.tracking.trackers
    if uri:
        mlflow = config.tracking if isinstance(config.tracking, cfg.Mlflow) else cfg.Mlflow()
        trackers = {MLFLOW: replace(mlflow, uri=uri)}
        validate(replace(config, tracking=replace(mlflow, uri=uri)))
    if not trackers and one_of_many:
        print(f"{name}: trained with tracking=none")
        return
    if not trackers:
        raise ConfigError(f"{name} was trained with tracking=none. Name a destination: --uri URI")
    runs.require_begun(directory)
    failures = []
    for tracker, settings in trackers.items():
        label = name if tracker == MLFLOW else f"{name}, {tracker}"
        try:
            _deliver(directory, config, label, tracker, settings, trust, bool(uri))
        except UserError as error:
            failures.append(error)
    for failure in failures[1:]:
        print(failure, file=sys.stderr)
    if failures:
        raise failures[0]


def _deliver(
    directory: Path, config: cfg.Config, label: str, name: str, settings: cfg.Tracker, trust: bool, elsewhere: bool
) -> None:
    """Bring one tracker of a run up to date, `elsewhere` at the user's address instead of the run's."""
    with locked(directory / tracking_lock(name), patience_s=0) as lock:
        if lock is None:
            print(f"{label}: the run's own mirror is delivering it")
            return
        if elsewhere:
            stores.remember(stores.Delivery(directory, name).switch_to(settings.address))
        else:
            agree(directory, name, settings, trust)
        runs.close_lost(directory)
        _send(label, build(directory, config, name, settings, lambda text: print(f"{label}: {text}")))


def _send(label: str, tracker: Tracker) -> None:
    try:
        tracker.check()
        if not tracker.behind:
            print(f"{label}: up to date")
            return
        tracker.replay()
    except UserError:
        raise
    except Exception as error:
        kind = Refused if is_final(error) else ServerLost
        remedy = "" if is_final(error) else " Is the server up? Repeat the command to send the rest."
        raise kind(f"{label} was not delivered to {tracker.place}: {reason_of(error)}.{remedy}") from error
    print(f"{label}: delivered to {tracker.place}")


def add_results(directory: Path, final: dict[str, float]) -> None:
    """Add to the final numbers of a finished run and deliver them; `sync` does so if the server is down."""
    # A directory that was fetched from MLflow is temporary and has no journal.
    if not final or not (directory / JOURNAL).is_file():
        return
    of_training = (event for event in latest(directory, ("metrics",)) if is_of_training(event))
    last = next(of_training, {"step": 0, "epoch": 0})
    name = os.path.relpath(directory)
    try:
        Journal(directory).metrics(last["step"], last["epoch"], {f"final/{key}": value for key, value in final.items()})
        if result := results.read(directory / RESULT):
            results.add(directory / RESULT, result, final)
        sync(directory, None, one_of_many=True)
    except OSError as error:
        print(f"{name} cannot be written ({error.strerror}): its latency is only printed.", file=sys.stderr)
    except UserError as error:
        print(f"Not every tracker has the latency yet: {error}", file=sys.stderr)
