"""The rank of this process in a run, and collectives with the other ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import paddle
from paddle import Tensor

from .. import device
from ..errors import RunFailed, UserError
from ..runs.protocol import PEERS
from .network import Network
from .sockets import Sockets

T = TypeVar("T")


class Transport(Protocol):
    """A transport between the processes of a run. Errors of every method: PeerLost."""

    def all_reduce_sum(self, tensor: Tensor) -> None: ...
    def all_reduce_max(self, tensor: Tensor) -> None: ...
    def barrier_without_timeout(self) -> None: ...
    def broadcast(self, message: Any) -> Any: ...


@dataclass(frozen=True)
class Ranks:
    """This process's rank and the world size. A single process exchanges nothing."""

    rank: int = 0
    world_size: int = 1
    transport: Transport | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.world_size > 1) is not (self.transport is not None):
            raise ValueError("a run of several processes needs a transport, and a run of one has none")

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @paddle.no_grad()
    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor of any shape over all processes, in place."""
        if self.transport:
            self.transport.all_reduce_sum(tensor)
        return tensor

    @paddle.no_grad()
    def all_reduce_max(self, tensor: Tensor) -> Tensor:
        """The largest values of a tensor of any shape over all processes, in place."""
        if self.transport:
            self.transport.all_reduce_max(tensor)
        return tensor

    @paddle.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Give floating-point tensors their means over all processes, in place, in one exchange a dtype."""
        if self.world_size == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            own = [tensor for tensor in tensors if tensor.dtype == dtype]
            together = self.all_reduce_sum(paddle.concat([tensor.flatten() for tensor in own]))
            together.scale_(1 / self.world_size)
            for tensor, part in zip(own, together.split([tensor.size for tensor in own]), strict=True):
                paddle.assign(part.reshape(tensor.shape), tensor)

    def any_rank(self, flag: bool) -> bool:
        """Whether a flag is set in any process. Waits for the device."""
        return (
            flag if self.world_size == 1 else bool(self.all_reduce_sum(paddle.to_tensor([int(flag)], "int64")).item())
        )

    def barrier(self) -> None:
        """Barrier. Errors: PeerLost, at once if a process is gone."""
        self.any_rank(False)

    def barrier_without_timeout(self) -> None:
        """Barrier without a timeout."""
        if self.transport:
            self.transport.barrier_without_timeout()

    def broadcast_from_first(self, make: Callable[[], T]) -> T:
        """Broadcast the result of `make` from the first process; it has to be picklable.

        Errors: a UserError that `make` raises in the first process is raised in every process, with its exit code.
        """
        if self.transport is None:
            return make()
        if not self.is_first:
            value, failure = self.transport.broadcast(None)
            if failure is not None:
                raise RunFailed(*failure)
            return value
        try:
            value = make()
        except UserError as error:
            self.transport.broadcast((None, (str(error), error.exit_code)))
            raise
        self.transport.broadcast((value, None))
        return value


#: A run of one process.
ALONE = Ranks()


def join() -> Ranks:
    """Connect to the other processes that the launcher's variables name (`PADDLE_TRAINER_ID`, …).

    CPUs of one machine exchange through sockets of the command's, of several through gloo, GPUs through NCCL. Errors:
    as in `Network`; ConfigError if this process has no GPU of its own.
    """
    world = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if world == 1:
        return ALONE
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if not device.gpus():
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    on_cpus = os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo"
    if not on_cpus:
        device.own_gpu()
    if PEERS in os.environ and on_cpus:
        return Ranks(rank, world, Sockets(rank, [int(number) for number in os.environ[PEERS].split(",")]))
    return Ranks(rank, world, Network(rank, world, os.environ["PADDLE_MASTER"]))
