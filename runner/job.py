"""One composed config, from Hydra to its result: a run of its own or a job of a sweep."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from . import config as cfg
from . import launch, summary, supervisor, sweep
from .config import store
from .errors import STOPPED, ConfigError, RunFailed, UserError
from .journal import CONFIG

#: What went wrong in this process. Hydra would print a line of its own for an exception, and end a sweep.
failures: list[UserError] = []
#: Job's directory → why it was not even started.
refused: dict[Path, UserError] = {}

# A launcher's processes import this module, and nothing else of the command, before they name their folders.
OmegaConf.register_new_resolver("sweep_folder", sweep.folder_name, replace=True)


def run(composed: DictConfig) -> float:
    """Train; returns the monitored metric, which a sweeper may optimise, or NaN where the run did not finish."""
    hydra = HydraConfig.get()
    directory, overrides = Path(hydra.runtime.output_dir), _as_typed(hydra.overrides.task)
    swept = sweep.read(Path(hydra.sweep.dir)) if hydra.mode == RunMode.MULTIRUN else None
    try:
        config = _config(composed, directory, swept)
        if swept:
            print(f"\n{directory.name.replace('_', ': ', 1)}", flush=True)
        cluster = isinstance(config.launch, cfg.Cluster) and not launch.is_launched()
        if cluster and swept:
            raise ConfigError(
                "launch=cluster: a sweep runs on one machine, or hands its jobs to a cluster (hydra/launcher=…). Use "
                "launch=local, or a run without -m."
            )
        if isinstance(config.launch, cfg.Cluster) and cluster and config.launch.rank is None:
            with contextlib.suppress(OSError):
                directory.rmdir()
            print("\n".join(launch.lines(config.launch, [*overrides, *_hydra_overrides(hydra)], directory)))
            return math.nan
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
            if not isinstance(error, RunFailed):
                refused[directory.resolve()] = error
                sweep.note_refusal(directory, overrides, error)
        return math.nan
    if result is None:
        return math.nan
    summary.show(config, directory, result, brief=swept is not None)
    if swept and supervisor.signals_received:
        raise KeyboardInterrupt
    return float(result["best"] if result["best"] is not None else result["final"]["top1"])


def _as_typed(overrides: Any) -> list[str]:
    """Overrides with their `${…}` as they are: what those stand for may be missing, or a secret."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(text) for text in plain]


def _hydra_overrides(hydra: Any) -> list[str]:
    """What the command said about Hydra itself, without the folder."""
    return [text for text in _as_typed(hydra.overrides.hydra) if not text.startswith(("hydra.run.dir=", "hydra.mode="))]


def _config(composed: DictConfig, directory: Path, swept: sweep.Sweep | None) -> cfg.Config:
    try:
        config = store.from_composition(composed)
    except UserError:
        if not swept:
            # Hydra made the folder before anybody looked at the config.
            with contextlib.suppress(OSError):
                directory.rmdir()
                directory.parent.rmdir()
        raise
    begun = (directory / CONFIG).exists()
    if swept and config.sweep.resume and (begun or config.checkpoint.resume == "never"):
        config = replace(config, checkpoint=replace(config.checkpoint, resume="auto"))
    return config
