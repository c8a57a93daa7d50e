"""Which processes of a run one command starts, by its config or by an outer launcher's variables. No Paddle."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .. import config as cfg
from .. import device, terminal
from ..errors import ConfigError


@dataclass
class Node:
    """The processes that one command starts, among all of a run."""

    first: int = 0
    """Number of the first of them."""
    processes: int = 1
    world_size: int = 1
    """Processes of the run on all machines."""
    local_world_size: int = 1
    """Processes of the run on this machine, whoever starts them."""
    master: str | None = None
    """HOST:PORT where process 0 listens; None: a free port of this machine."""
    devices: list[int] = field(default_factory=list)
    """GPU of each process."""
    is_given: bool = False
    """Whether an outer launcher has set the variables already."""

    def environment(self, local: int, master: str) -> dict[str, str]:
        """The variables by which process `local` of this node finds the others, named as by
        `paddle.distributed.launch`."""
        if self.world_size == 1 and not self.devices:
            return {}
        rank, host = self.first + local, master.rpartition(":")[0]
        variables = {"PADDLE_LOCAL_SIZE": str(self.local_world_size), device.SELECTED_GPU: str(self.devices[local])}
        if self.world_size > 1:
            # Only the master is connected to; the others need a name each.
            endpoints = [f"{host}:{number}" for number in range(self.world_size)]
            variables |= {
                "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(self.world_size), "PADDLE_MASTER": master,
                "PADDLE_RANK_IN_NODE": str(local), "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
                "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
            }  # fmt: skip
        return variables


def node(launch: cfg.Launch) -> Node:
    """The processes that this command starts, from an outer `paddle.distributed.launch` or else from the config."""
    if is_launched():
        local_world_size = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
        rank, world = int(os.environ["PADDLE_TRAINER_ID"]), int(os.environ["PADDLE_TRAINERS_NUM"])
        return Node(rank, 1, world, local_world_size, os.environ.get("PADDLE_MASTER"), is_given=True)
    count = launch.processes
    devices = launch.devices or list(range(count))
    if isinstance(launch, cfg.Cluster):
        number = launch.rank or 0
        return Node(number * count, count, launch.nnodes * count, count, launch.master, devices)
    return Node(0, count, count, count, None, devices if count > 1 or launch.devices else [])


def is_launched() -> bool:
    """Whether `paddle.distributed.launch` started this process. Errors: ConfigError for a part of its variables."""
    world, rank = os.environ.get("PADDLE_TRAINERS_NUM", "1"), os.environ.get("PADDLE_TRAINER_ID", "")
    if world == "1":
        return False
    if world.isdecimal() and rank.isdecimal() and int(rank) < int(world) and os.environ.get("PADDLE_MASTER"):
        return True
    raise ConfigError(
        f"PADDLE_TRAINERS_NUM={world} is set, and PADDLE_TRAINER_ID or PADDLE_MASTER does not fit it. If "
        "paddle.distributed.launch did not start this: unset PADDLE_TRAINERS_NUM"
    )


def launched() -> str:
    """What an outer launcher's variables say, since another program may have left them."""
    rank, world, master = (os.environ[f"PADDLE_{name}"] for name in ("TRAINER_ID", "TRAINERS_NUM", "MASTER"))
    return (
        f"Process {rank} of {world} waits for the others at {master}, as PADDLE_TRAINERS_NUM={world} says. If no "
        "launcher started it, stop it and unset PADDLE_TRAINERS_NUM."
    )


def own_folder() -> list[str]:
    """The override that gives a process of an outer launcher, other than the first, a folder for its logs."""
    if os.environ["PADDLE_TRAINER_ID"] == "0":
        return []
    return [terminal.override("hydra.run.dir", tempfile.mkdtemp(prefix="runner-"))]


def lines(launch: cfg.Cluster, overrides: list[str], directory: Path) -> list[str]:
    """The command of every node."""
    shared = [text for text in overrides if not text.startswith(("launch.rank=", "hydra.run.dir="))]
    place = terminal.override("hydra.run.dir", os.path.relpath(directory))
    return [terminal.command(*shared, place, f"launch.rank={rank}") for rank in range(launch.nnodes)]
