"""Properties of the choices of `hydra/launcher` and `hydra/sweeper`. Imports none of them."""

from __future__ import annotations

import traceback
from typing import Any

from .. import device
from ..errors import ProcessLost, RunFailed

#: Choice → the extra of this package that brings it.
EXTRAS = {
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/ray": "ray",
}
#: Package that raises → the choice that brought it in.
ENGINES = {
    "joblib": "hydra/launcher=joblib",
    "concurrent": "hydra/launcher=joblib",
    "submitit": "hydra/launcher=submitit",
    "ray": "hydra/launcher=ray",
    "optuna": "hydra/sweeper=search",
}
#: Lines of an engine's message that are shown.
SHOWN = 12


def is_elsewhere(target: str) -> bool:
    """Whether a launcher's jobs run in other processes than the command's own."""
    return not target.endswith(".BasicLauncher")


def is_search(target: str) -> bool:
    """Whether a sweeper is the one for searches."""
    return target.endswith(".runner_search.Search")


def is_queue(target: str) -> bool:
    """Whether a launcher's jobs outlive the command that started them, as those of a cluster's queue do."""
    return target.endswith(".SlurmLauncher")


def joins_cluster(launcher: Any) -> bool:
    """Whether a launcher's jobs run where other machines, or earlier commands, started its processes."""
    return launcher._target_.endswith(".RayLauncher") and bool(launcher.ray.init.get("address"))


def needed(launcher: Any) -> list[str]:
    """Further overrides that a launcher needs to work."""
    # Hydra's plugin (1.2.2) sets it where it is missing, and Ray (2.60) refuses it where it joins a cluster.
    if joins_cluster(launcher) and "object_store_memory" not in launcher.ray.init:
        return ["+hydra.launcher.ray.init.object_store_memory=null"]
    return []


def at_once(launcher: Any, jobs: int) -> int:
    """How many of `jobs` run concurrently on one machine."""
    cores = device.cores()
    match launcher._target_.rpartition(".")[2]:
        case "JoblibLauncher":
            wanted = int(launcher.n_jobs)
            slots = wanted if wanted > 0 else cores + 1 + wanted
        case "LocalLauncher":
            # All of them, unless they declare how many cores they use.
            slots = cores // launcher.cpus_per_task if launcher.cpus_per_task else jobs
        case "RayLauncher":
            slots = (launcher.ray.init.get("num_cpus") or cores) // (launcher.ray.remote.get("num_cpus") or 1)
        case _:
            slots = 1
    return max(1, min(int(slots), jobs))


def side_by_side(launcher: Any, jobs: int) -> int:
    """How many of `jobs` begin before one of them has ended; all of them where other machines run them."""
    name = launcher._target_.rpartition(".")[2]
    is_known = name in ("BasicLauncher", "JoblibLauncher", "LocalLauncher", "RayLauncher")
    return at_once(launcher, jobs) if is_known and not joins_cluster(launcher) else jobs


def user_error_of(error: BaseException) -> RunFailed | None:
    """The user's message for an error of a launcher or sweeper; None for all others."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for name in (type(error).__module__, *frames[-1:]):
        if engine := ENGINES.get(name.partition(".")[0]):
            reason = "\n".join(str(error).strip().splitlines()[:SHOWN])
            return RunFailed(f"{engine} failed. {type(error).__name__}: {reason}", ProcessLost.exit_code)
    return None
