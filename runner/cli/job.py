"""One composed config, from Hydra to its result: a run of its own or a job of a sweep."""

from __future__ import annotations

import contextlib
import copy
import errno
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from .. import config as cfg
from .. import device, files, terminal
from ..config import store
from ..errors import STOPPED, ConfigError, RunFailed, UserError
from ..launch import supervisor, workers
from ..launch.command import Command
from ..launch.missing import refuse_missing
from ..runs import sweep
from ..runs.journal import CONFIG
from . import engines, run_summary

#: When this process began; a folder that is older was not made by it.
STARTED = time.time()

# A launcher's processes import this module, and nothing else of the command, before they compose their jobs.
OmegaConf.register_new_resolver("sweep_folder", sweep.folder_name, replace=True)


class Refused(BaseException):
    """A config is refused: not an Exception, which Hydra would turn into a warning."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Check(Callback):
    """Has a run looked at before Hydra makes its folder, so that one that is refused leaves none."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Errors: Refused."""
        try:
            composed = copy.deepcopy(config)
            with open_dict(composed):
                del composed["hydra"]
            typed = store.from_composition(composed)
            if typed.sweep.optuna:
                raise ConfigError("+sweep/optuna=… is a search over many runs: add -m")
            folder = Path(config.hydra.run.dir)
            if any(len(os.fsencode(part)) > files.LONGEST_NAME for part in folder.parts):
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder))
            # Other machines have images of their own, and a run that is complete needs none.
            if isinstance(typed.launch, cfg.Local) and not (folder / CONFIG).exists():
                refuse_missing(typed)
        except Exception as error:
            raise Refused(error) from error


def run(command: Command, composed: DictConfig) -> Any:
    """Train; returns what a sweeper may optimise, or no number where the run did not finish."""
    hydra = HydraConfig.get()
    directory, overrides = Path(hydra.runtime.output_dir), _as_typed(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        if not hydra.job.num:
            tell_of_variables(composed)
        return _job(command, composed, directory, overrides)
    tell_of_variables(composed)
    command.directory = directory
    try:
        config = store.from_composition(composed)
        if isinstance(config.launch, cfg.Cluster) and config.launch.rank is None and not workers.is_launched():
            _leave_no_folder(directory)
            command.directory = None
            print("\n".join(workers.lines(config.launch, [*overrides, *_hydra_overrides(hydra)], directory)))
            return None
        tell_of_augmentation(config, overrides)
        try:
            result = supervisor.run(command, config, directory, overrides)
        finally:
            command.mirrors.drain()
    except UserError as error:
        command.failures.append(error)
        if error.exit_code in STOPPED:
            raise KeyboardInterrupt from error
        return None
    if result is not None:
        run_summary.show(config, directory, result)
    return None


def tell_of_variables(composed: DictConfig) -> None:
    """Say which variables of MLflow's are not followed, where the config says nothing else than by default either.

    Their values may have passwords in them, and are not shown.
    """
    for variable, (key, default) in cfg.VARIABLES.items():
        value = OmegaConf.select(composed, key, throw_on_missing=False)
        if value == default and os.environ.get(variable, value) != value:
            print(
                f'{variable} is set and not used; this is {key}={value}. To follow it: {key}="${variable}"',
                file=sys.stderr,
            )


def tell_of_augmentation(config: cfg.Config, overrides: list[str]) -> None:
    """Say which changes to images were asked for, where `augment=none` has all of them off."""
    changes = [text for text in overrides if text.lstrip("+").startswith("augment.")]
    changes = [text for text in changes if not text.lstrip("+").startswith("augment.enabled=")]
    if changes and not config.augment.enabled:
        print(f"{', '.join(changes)}: nothing comes of it with augment=none. Leave one of them out", file=sys.stderr)


def _job(command: Command, composed: DictConfig, directory: Path, overrides: list[str]) -> float:
    """Train a job of a sweep; returns what it monitored, NaN where it did not finish."""
    swept = sweep.read(directory.parent)
    elsewhere = engines.is_elsewhere(swept.launcher)
    if elsewhere:
        os.chdir(HydraConfig.get().runtime.cwd)
        _join_sweep(swept)
    try:
        if number := sweep.asked_to_stop(directory.parent):
            _leave_no_folder(directory)
            raise RunFailed(f"Stopped by {STOPPED[128 + number]}.", 128 + number)
        config = _config_of_job(composed, directory)
        tell_of_augmentation(config, overrides)
        terminal.say(f"{'' if elsewhere else chr(10)}{directory.name.replace('_', ': ', 1)}")
        try:
            result = supervisor.run(command, config, directory, overrides, {"sweep_id": swept.id})
        finally:
            # In this process the sweep waits for all of them, in the end; in another one nobody would.
            if elsewhere:
                command.mirrors.drain()
    except UserError as error:
        command.failures.append(error)
        if error.exit_code in STOPPED:
            _stopped(directory.parent, swept, error)
        else:
            terminal.say(f"{sweep.prefix(directory)}{error}")
            if not isinstance(error, RunFailed):
                sweep.note_refusal(directory, overrides, error)
        return math.nan
    if result is None:
        return math.nan
    run_summary.brief(result, sweep.prefix(directory))
    if command.signals_received and not elsewhere:
        raise KeyboardInterrupt
    return result.monitored


def _stopped(folder: Path, swept: sweep.Sweep, error: UserError) -> None:
    """End as a job that was stopped has to, so that no other one is started."""
    if not engines.is_elsewhere(swept.launcher):
        # Not an Exception, or the launcher would start the next job.
        raise KeyboardInterrupt from error
    ended_by_queue = engines.is_queue(swept.launcher) and not sweep.asked_to_stop(folder)
    if ended_by_queue or sweep.is_orphaned(folder):
        # The queue may start it again, and must see no result; or nobody waits for one, which not every launcher sees.
        os._exit(error.exit_code)


def _join_sweep(swept: sweep.Sweep) -> None:
    """Be one of several jobs: the command alone speaks of stopping, and nobody has the terminal for itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {"TERM": "dumb", device.AT_ONCE: str(swept.at_once)}


def _leave_no_folder(directory: Path) -> None:
    """Hydra makes the folder before anybody looked at the config; one that was there before stays."""
    with contextlib.suppress(OSError):
        if directory.stat().st_mtime >= STARTED:
            files.remove_empty(directory)


def _as_typed(overrides: Any) -> list[str]:
    """Overrides with their `${…}` as they are: what those stand for may be missing, or a secret."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(text) for text in plain]


def _hydra_overrides(hydra: Any) -> list[str]:
    """What the command said about Hydra itself, without the folder."""
    return [text for text in _as_typed(hydra.overrides.hydra) if not text.startswith(("hydra.run.dir=", "hydra.mode="))]


def _config_of_job(composed: DictConfig, directory: Path) -> cfg.Config:
    config = store.from_composition(composed)
    if isinstance(config.launch, cfg.Cluster):
        raise ConfigError(
            "launch=cluster: a sweep runs on one machine, or hands its jobs to a cluster (hydra/launcher=…). Use "
            "launch=local, or a run without -m."
        )
    if (directory / CONFIG).exists():
        # The sweep is resumed, or a queue has started this job again.
        config = replace(config, checkpoint=replace(config.checkpoint, resume="auto"))
    return config
