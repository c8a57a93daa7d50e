"""One composed config, from Hydra to its result: a run of its own or a job of a sweep."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from . import config as cfg
from . import summary, supervisor, sweep
from .config import store
from .errors import STOPPED, UserError

#: What went wrong in this process. Hydra would print a line of its own for an exception, and end a sweep.
failures: list[UserError] = []


def run(composed: DictConfig) -> float:
    """Train; returns the monitored metric, which a sweeper may optimise, or NaN where the run did not finish."""
    hydra = HydraConfig.get()
    directory, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    swept = sweep.read(directory.parent) if hydra.mode == RunMode.MULTIRUN else None
    try:
        config = _config(composed, directory, overrides, swept)
        if swept:
            print(f"\n{directory.name.replace('_', ': ', 1)}", flush=True)
        tags = {"sweep_id": swept.id} if swept else {}
        try:
            result = supervisor.run(config, directory, overrides, tags)
        finally:
            # In this process the sweep waits for all of them, in the end; in another one nobody would.
            if not (swept and hydra.launcher._target_.endswith("BasicLauncher")):
                supervisor.MIRROR.drain()
    except UserError as error:
        failures.append(error)
        if error.exit_code in STOPPED:
            # Not an Exception, or the launcher would start the next job.
            raise KeyboardInterrupt from error
        if swept:
            print(error, flush=True)
        return math.nan
    summary.show(config, directory, result, brief=swept is not None)
    return float(result["best"] if result["best"] is not None else result["final"]["top1"])


def _config(composed: DictConfig, directory: Path, overrides: list[str], swept: sweep.Sweep | None) -> cfg.Config:
    try:
        config = store.from_composition(composed)
    except UserError as error:
        if swept:
            sweep.note_failure(directory, overrides, error)
        else:
            # Hydra made the folder before anybody looked at the config.
            with contextlib.suppress(OSError):
                directory.rmdir()
                directory.parent.rmdir()
        raise
    if swept and config.sweep.resume:
        config = replace(config, checkpoint=replace(config.checkpoint, resume="auto"))
    return config
