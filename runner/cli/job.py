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
from ..launch import nodes, supervisor
from ..launch.command import Command
from ..launch.missing import refuse_missing
from ..runs import sweep
from ..runs.journal import CONFIG
from . import end_of_run, engines

#: When this process started; it did not create older folders.
STARTED = time.time()

# Launchers' processes import only this module of the command before they compose their jobs.
OmegaConf.register_new_resolver("sweep_folder", sweep.folder_name, replace=True)


class Refused(BaseException):
    """A config is refused: not an Exception, which Hydra would turn into a warning."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Check(Callback):
    """Checks a run before Hydra creates its folder, so that a refused one leaves none."""

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
            # Other machines have their own images, and a complete run needs none.
            if isinstance(typed.launch, cfg.Local) and not (folder / CONFIG).exists():
                refuse_missing(typed)
        except Exception as error:
            raise Refused(error) from error


def run(command: Command, composed: DictConfig) -> Any:
    """Train; returns the value that a sweeper optimizes, NaN if the run did not finish."""
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
        if isinstance(config.launch, cfg.Cluster) and config.launch.rank is None and not nodes.is_launched():
            _leave_no_folder(directory)
            command.directory = None
            print("\n".join(nodes.lines(config.launch, [*overrides, *_hydra_overrides(hydra)], directory)))
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
        end_of_run.show(config, directory, result)
    return None


def tell_of_variables(composed: DictConfig) -> None:
    """Warn of MLflow's environment variables that are ignored while their keys have default values.

    Their values may contain passwords and are not shown.
    """
    for variable, (key, default) in cfg.VARIABLES.items():
        value = OmegaConf.select(composed, key, throw_on_missing=False)
        if value == default and os.environ.get(variable, value) != value:
            print(
                f'{variable} is set but not used; the run has {key}={value}. To use it: {key}="${variable}"',
                file=sys.stderr,
            )


def tell_of_augmentation(config: cfg.Config, overrides: list[str]) -> None:
    """Warn of augmentations that were set although `augment=none` turns all of them off."""
    changes = [text for text in overrides if text.lstrip("+").startswith("augment.")]
    changes = [text for text in changes if not text.lstrip("+").startswith("augment.enabled=")]
    if changes and not config.augment.enabled:
        print(f"{', '.join(changes)}: has no effect with augment=none. Remove one of them.", file=sys.stderr)


def _job(command: Command, composed: DictConfig, directory: Path, overrides: list[str]) -> float:
    """Train a job of a sweep; returns its monitored metric, NaN if it did not finish."""
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
            # In this process the sweep waits for all mirrors at the end; in another one nothing would.
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
    end_of_run.brief(result, sweep.prefix(directory))
    if command.signals_received and not elsewhere:
        raise KeyboardInterrupt
    return result.monitored


def _stopped(folder: Path, swept: sweep.Sweep, error: UserError) -> None:
    """Exit after a stop in such a way that no further job is started."""
    if not engines.is_elsewhere(swept.launcher):
        # Not an Exception, or the launcher would start the next job.
        raise KeyboardInterrupt from error
    ended_by_queue = engines.is_queue(swept.launcher) and not sweep.asked_to_stop(folder)
    if ended_by_queue or sweep.is_orphaned(folder):
        # A queue may restart the job and must not see a result; not every launcher notices that it was stopped.
        os._exit(error.exit_code)


def _join_sweep(swept: sweep.Sweep) -> None:
    """Set up as one of several parallel jobs: ignore SIGINT, plain output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {"TERM": "dumb", device.AT_ONCE: str(swept.at_once)}


def _leave_no_folder(directory: Path) -> None:
    """Remove the folder that Hydra created for a refused config; an older one stays."""
    with contextlib.suppress(OSError):
        if directory.stat().st_mtime >= STARTED:
            files.remove_empty(directory)


def _as_typed(overrides: Any) -> list[str]:
    """Overrides with `${…}` unresolved: their values may be missing, or secret."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(text) for text in plain]


def _hydra_overrides(hydra: Any) -> list[str]:
    """The command's overrides of Hydra itself, without the folder."""
    return [text for text in _as_typed(hydra.overrides.hydra) if not text.startswith(("hydra.run.dir=", "hydra.mode="))]


def _config_of_job(composed: DictConfig, directory: Path) -> cfg.Config:
    config = store.from_composition(composed)
    if isinstance(config.launch, cfg.Cluster):
        raise ConfigError(
            "launch=cluster: a sweep runs on one machine, or submits its jobs to a cluster (hydra/launcher=…). Use "
            "launch=local, or a run without -m."
        )
    if (directory / CONFIG).exists():
        # The sweep was resumed, or a queue restarted this job.
        config = replace(config, checkpoint=replace(config.checkpoint, resume="auto"))
    return config
