"""Names of a run and its parameters, the same in every tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..config import store
from ..runs import summary, sweep


def names(config: cfg.Config) -> dict[str, str]:
    """The config values that identify a run in a tracker: tags to search for, parameters to compare and plot."""
    return {
        "mode": config.mode.kind,
        "compression": config.compression.kind,
        "model": cfg.model_name(config.model),
        "data": config.data.kind,
    }


def identity(config: cfg.Config, directory: Path) -> dict[str, str]:
    """The tags that say what a run is: those of `names`, or that it is the summary of a sweep. Errors: Damaged."""
    if summary.is_summary(directory):
        return {summary.TAG: sweep.read(directory.absolute().parent).id}
    return names(config)


def parameters(config: cfg.Config) -> dict[str, str]:
    """Every leaf of the config by its dotted name; the choice of a group by the group's name."""
    leaves = store.flatten(config)
    return {key.removesuffix(".kind"): files.writable(value) for key, value in leaves.items()} | names(config)


def run_name(config: cfg.Config, directory: Path) -> str:
    """`<mode>-<compression>-<model>-<short id>`; for a job of a sweep the short id is `<sweep>-<number>`.

    The summary of a sweep is `sweep-<sweep>`.
    """
    if summary.is_summary(directory):
        return f"sweep-{directory.absolute().parent.name}"
    short = directory.name.rpartition("_")[2]
    if directory.parent.parent.name == "sweeps":
        short = f"{directory.parent.name}-{directory.name.partition('_')[0]}"
    return f"{config.mode.kind}-{config.compression.kind}-{cfg.model_name(config.model)}-{short}"


def checkpoint_names(event: Mapping[str, Any], upload: cfg.Upload) -> list[str]:
    """The names under which `tracking.checkpoints`, unless it is `none`, uploads the checkpoint of an event."""
    if event.get("final"):
        # Training cannot resume from it.
        return ["final"]
    return [
        *(["best"] if event["better"] else []),
        *(["last"] if upload in (cfg.Upload.last, cfg.Upload.all) else []),
        *([event["name"]] if upload is cfg.Upload.all else []),
    ]
