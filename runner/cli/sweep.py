"""`runner -m`: plans a sweep, has Hydra run it, and closes what its launcher left open."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import config as cfg
from .. import files, processes, runs, terminal
from ..config import credentials, store
from ..config.keys import expand_paths
from ..config.rules import name_problems
from ..config.rules.search import refuse_search
from ..errors import STOPPED, ConfigError, Damaged, DiskError, ForeignPath, RunFailed
from ..launch.command import Command
from ..launch.forward_signals import ToJobs
from ..launch.missing import refuse_missing, refuse_missing_data
from ..runs import sweep, sweep_again
from ..runs.journal import CONFIG, SWEEP, Journal, events, tracked
from ..tracking import tracker
from . import compose, corners, engines, search, spaces, sweep_checks
from .config_dir import config_dir

#: Overrides that decide where and how a sweep runs.
NAMING = ("name", "sweep.", "sweep/", "hydra.", "hydra/", "experiment")
#: Overrides that may select a job's images.
OF_DATA = ("data", "experiment")
#: Polls, one a second, until jobs count as ended.
SETTLED = 3


def run(command: Command, flags: list[str], overrides: list[str]) -> int:
    """Run every job of a sweep and show the results. Returns the exit code.

    Errors: ConfigError for a sweep that cannot run, RunFailed if it was stopped or its launcher failed.
    """
    try:
        directory, planned, resume, further = plan_sweep(overrides)
    except Exception as error:
        raise compose.explain(error, overrides) from error
    if engines.is_elsewhere(planned.launcher):
        processes.run_in_shielded_child(functools.partial(sweep.ask_to_stop, directory))
    _quieten()
    try:
        return _run(command, flags, [*sweep_again.in_order(directory, planned), *further], directory, planned, resume)
    except (FileNotFoundError, Damaged) as error:
        if (directory / SWEEP).exists():
            raise
        for path in (*directory.glob("*"), directory):
            # Hydra creates a job's folder before the job notices that the sweep's is gone.
            files.remove_empty(path)
        raise DiskError(
            f"{directory} was moved or removed while its sweep ran. Put it back, then repeat the command with "
            "sweep.resume=true"
        ) from error


def _run(
    command: Command, flags: list[str], overrides: list[str], directory: Path, planned: sweep.Sweep, resume: bool
) -> int:
    """Run the jobs of a planned sweep. Returns the exit code."""
    command.directory = directory
    if resume and not (directory / SWEEP).exists():
        terminal.say(
            f"sweep.resume=true: {terminal.place(directory)} has no sweep yet, so a new one begins. One that was begun "
            "with other overrides is found by those, or by its folder: hydra.sweep.dir=DIR"
        )
    with sweep.lock_sweep(directory, planned, resume), ToJobs(directory):
        gave_up = True
        try:
            compose.run_hydra(command, [*flags, *overrides, terminal.override("hydra.sweep.dir", directory)], directory)
            gave_up = False
        except ConfigError as error:
            if "no key" not in str(error):
                raise
            # Hydra 1.3 composes what all jobs share without what is swept, too.
            hint = "A key that only swept choices have is written with ++, such as ++optimizer.momentum=0.9"
            raise ConfigError(f"{error}\n{hint}") from error
        except RunFailed:
            # An engine breaks in its own way when it is told to stop, and a search where no job has a result.
            states = [runs.state(path).status for path in sweep.jobs(directory)]
            if set(states) != {"FAILED"} and not sweep.asked_to_stop(directory):
                raise
        finally:
            command.template.close()
            wait_for_jobs(command, directory, gave_up)
            from . import end_of_sweep

            exit_code = end_of_sweep.show(directory)
        if stopped := sweep.asked_to_stop(directory):
            raise RunFailed(f"Stopped by {STOPPED[128 + stopped]}.", 128 + stopped)
    return exit_code or (command.failures[0].exit_code if command.failures else 0)


def plan_sweep(overrides: list[str]) -> tuple[Path, sweep.Sweep, bool, list[str]]:
    """(folder, sweep.json, whether to resume, overrides that the launcher needs).

    Errors: ConfigError for errors that all jobs share, DataError for missing images.
    """
    parsed = _parsed(overrides)
    fixed = [override for override in parsed if not override.is_sweep_override()]
    # The rest may be valid only with the swept choices.
    naming = [str(one.input_line) for one in fixed if one.key_or_group.startswith(NAMING)]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = hydra.compose("config", naming, return_hydra_config=True)
        # A config file may also set what is swept.
        credentials.refuse(OmegaConf.to_yaml(composed.hydra.sweeper))
        for problem in name_problems(str(composed.name)):
            raise ConfigError(problem)
        config = _check([str(one.input_line) for one in fixed])
    settings: Any = OmegaConf.to_object(composed.sweep)
    # What a config file sweeps, in the words of the command line.
    further = composed.hydra.sweeper.get("params") or {}
    params = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in further.items()])
    varied, jobs = _varied(settings, composed, [*params, *parsed])
    lines = [str(one.input_line) for one in (*params, *parsed) if not one.is_sweep_override()]
    sweep_checks.refuse(settings, (config or composed).train, varied, lines)
    keys = [key.lstrip("+~") for key in varied]
    directory = Path(str(composed.hydra.sweep.dir))
    if not any(one.key_or_group == "hydra.sweep.dir" for one in fixed):
        directory = sweep_again.folder_of(directory, overrides, keys)
    launcher = composed.hydra.launcher
    if engines.joins_cluster(launcher):
        # Its processes have other working directories.
        directory = directory.absolute()
    has_one_set = not any(key.startswith(OF_DATA) for key in keys)
    # A queue's machines have their own images, and complete jobs need none.
    if config and has_one_set and not engines.is_queue(launcher._target_) and not settings.resume:
        # The machines of a cluster may have GPUs and packages that this one lacks.
        (refuse_missing_data if engines.joins_cluster(launcher) else refuse_missing)(config)
    if settings.optuna and not (directory / SWEEP).exists():
        corners.refuse(*spaces.of(settings.optuna.space, [*params, *parsed]))
    # In the format of Hydra's sweepers.
    shared = [f"{one.get_key_element()}={one.get_value_element_as_str()}" for one in fixed]
    at_once = engines.at_once(launcher, jobs)
    outlives = engines.is_queue(launcher._target_)
    planned = sweep.Sweep(sweep.new_id(overrides, keys), overrides, shared, launcher._target_, outlives, at_once, keys)
    return directory, planned, settings.resume, engines.needed(launcher)


def _varied(settings: Any, composed: Any, parsed: list[Override]) -> tuple[sweep_checks.Varied, int]:
    """What a sweep or a search varies, and how many of its jobs may run at a time.

    `composed`: the config of all that is not varied. Errors: ConfigError for a search that cannot work.
    """
    swept = [one for one in parsed if one.is_sweep_override()]
    if settings.optuna:
        search.require_packages()
        space, _ = spaces.of(settings.optuna.space, parsed)
        spaces.refuse(settings.optuna, space)
        return {key: one.choices for key, one in space.items()}, settings.optuna.parallel
    if engines.is_search(composed.hydra.sweeper._target_):
        raise ConfigError("hydra/sweeper=search: no search was configured. Add one, such as +sweep/optuna=default")
    jobs = math.prod(len(list(one.sweep_iterator())) for one in swept if one.is_discrete_sweep())
    return sweep_checks.varied_by(swept), jobs


def _parsed(overrides: list[str]) -> list[Override]:
    """The overrides of a sweep. Errors: ConfigError for those that no sweep has, and for values that make no job."""
    for text in overrides:
        if text.startswith(("-", "hydra.sweep.subdir=")):
            raise ConfigError(
                f"{text}: not with -m. A folder of configs is added with hydra.searchpath=[file://DIR], and the jobs' "
                "folders have names of their own."
            )
    parsed: list[Override] = OverridesParser.create().parse_overrides(overrides)
    for one in parsed:
        if one.is_discrete_sweep() and not any(True for _ in one.sweep_iterator()):
            raise ConfigError(
                f"{one.input_line} has no values. A range ends before its second number: range(0,3) is 0,1,2"
            )
        values = Counter(map(str, one.sweep_iterator())) if one.is_choice_sweep() else Counter[str]()
        if repeated := [value for value, count in values.items() if count > 1]:
            raise ConfigError(
                f"{one.input_line} has {repeated[0]} more than once: those jobs would be the same. Runs of one "
                "configuration differ by their seed: train.seed=0,1,2"
            )
    return parsed


def _check(overrides: list[str]) -> cfg.Config | None:
    """Refuse overrides that no job could run with, before anything is written. Errors: ConfigError.

    Returns the config that all jobs share, if it is valid without what is swept.
    """
    try:
        composed = hydra.compose("config", overrides)
        # Hydra writes down what all jobs share; a config file may say it as well as the command line.
        credentials.refuse(OmegaConf.to_yaml(composed))
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException):
        # What is invalid only without the swept overrides is checked in each job.
        return None
    assert isinstance(config, cfg.Config)
    refuse_search(config)
    if OmegaConf.missing_keys(composed):
        return None
    expand_paths(config)
    return config


def _quieten() -> None:
    """Silence launcher and Optuna logs that the table repeats."""
    logging.getLogger("hydra_plugins").addHandler(logging.NullHandler())
    logging.getLogger("optuna.storages").setLevel(logging.WARNING)


def wait_for_jobs(command: Command, directory: Path, gave_up: bool) -> None:
    """Wait for jobs that a failed launcher left running, and for deliveries to trackers."""
    launcher = sweep.read(directory).launcher
    looks = SETTLED if gave_up and engines.is_elsewhere(launcher) and not engines.is_queue(launcher) else 0
    while looks:
        time.sleep(1)
        looks = SETTLED if any(map(runs.is_running, sweep.jobs(directory))) else looks - 1
    followed = {path.resolve() for path in command.mirrors.followed}
    for one in sweep.jobs(directory):
        if one.resolve() not in followed and (one / CONFIG).is_file() and not runs.is_running(one):
            _deliver(command, one)
    _tell_of_results(command, directory)
    command.mirrors.drain()


def _tell_of_results(command: Command, directory: Path) -> None:
    """Tag the runs in trackers with each configuration's statistics over seeds or folds, and send the summary."""
    # The import takes a tenth of a second, which a config error need not wait for.
    from ..report import repeats, subject
    from . import summary_run

    jobs = subject.jobs(directory)
    summary_run.deliver(command, directory, jobs)
    for job, tags in repeats.tags(repeats.of(jobs)).items():
        with contextlib.suppress(OSError, ConfigError, Damaged, ForeignPath):
            earlier = [event for event, _ in events(job, kinds=("tags", "ended"))]
            if tags.items() <= _last_tags(earlier).items():
                continue
            journal = Journal(job)
            journal.append("tags", values=tags)
            # Repeat its end: followers of the run wait for one.
            journal.append(**[event for event in earlier if event["event"] == "ended"][-1])
            for name, settings in store.read(job / CONFIG).tracking.trackers.items():
                tracker.agree(job, name, settings)
                command.mirrors.follow(job, name, settings)
            command.mirrors.ended(job, None)


def _last_tags(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The tags of a run after these events: of one name the last one counts."""
    last: dict[str, str] = {}
    for event in events:
        last |= event["values"] if event["event"] == "tags" else {}
    return last


def _deliver(command: Command, directory: Path) -> None:
    """Close and deliver a run whose processes were killed before they could."""
    with contextlib.suppress(ConfigError, Damaged, ForeignPath):
        files.refuse_links(directory)
        trackers = store.read(directory / CONFIG).tracking.trackers
        missing = {name: one for name, one in trackers.items() if not tracked(directory, name).get("ended")}
        end = runs.close_lost(directory) if missing else None
        for name, settings in missing.items():
            try:
                # The folder of a resumed sweep may be foreign.
                tracker.agree(directory, name, settings)
            except ConfigError as error:
                print(error, file=sys.stderr)
                continue
            command.mirrors.follow(directory, name, settings)
        if missing:
            command.mirrors.ended(directory, end)
