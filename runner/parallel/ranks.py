"""Which process of a run this one is, and what it exchanges with the others."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import paddle
from paddle import Tensor

from ..errors import RunFailed, UserError

T = TypeVar("T")
#: Numbers of the moments at which all processes met.
_meetings = itertools.count()
#: Seconds between two looks whether the first process listens. Paddle 3.3.1 itself waits 3 s after a first refusal.
POLL_S = 0.02


class PeerLost(BaseException):
    """The connection to another process of the run broke."""


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """What Paddle raises in an exchange, it raises because another process is gone. Errors: PeerLost."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        raise PeerLost(f"the connection to another process broke: {error}") from error


@dataclass(frozen=True)
class Ranks:
    """The number of this process among all of a run. Alone, it exchanges nothing."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @paddle.no_grad()
    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor of any shape over all processes, in place."""
        if self.world > 1:
            with _connected():
                paddle.distributed.all_reduce(tensor)
        return tensor

    @paddle.no_grad()
    def largest(self, tensor: Tensor) -> Tensor:
        """The largest values of a tensor of any shape over all processes, in place."""
        if self.world > 1:
            with _connected():
                paddle.distributed.all_reduce(tensor, paddle.distributed.ReduceOp.MAX)
        return tensor

    @paddle.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Give float32 tensors of any shape their means over all processes, in place, in one exchange."""
        if self.world == 1 or not tensors:
            return
        together = self.total(paddle.concat([tensor.flatten() for tensor in tensors]))
        together.scale_(1 / self.world)
        parts = together.split([tensor.size for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            paddle.assign(part.reshape(tensor.shape), tensor)

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process. Waits for the device."""
        if self.world == 1:
            return flag
        self.wait()
        return bool(self.total(paddle.to_tensor([int(flag)])).item())

    def wait(self) -> None:
        """Return once every process has come here, however long that takes: gloo itself gives up after 30 s."""
        if self.world == 1:
            return
        store, meeting = paddle.base.core.create_or_get_global_tcp_store(), next(_meetings)
        with _connected():
            if store.add(f"runner/{meeting}/came", 1) == self.world:
                store.set(f"runner/{meeting}/all", "1")
            store.get(f"runner/{meeting}/all")
        left = f"runner/{meeting}/left"
        if self.is_first:
            # It keeps the store, and may end behind this.
            with _connected():
                while store.add(left, 0) < self.world - 1:
                    time.sleep(POLL_S / 20)
        else:
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                store.add(left, 1)

    def same(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in every process; it has to survive pickling.

        Errors: a UserError that `make` raises in the first process, in every process with its exit code.
        """
        if self.world == 1:
            return make()
        if not self.is_first:
            made, failure = self._hear(None)
            if failure is not None:
                raise RunFailed(*failure)
            return made
        try:
            made = make()
        except UserError as error:
            self._hear((None, (str(error), error.exit_code)))
            raise
        self._hear((made, None))
        return made

    def _hear(self, said: Any) -> Any:
        """What the first process says."""
        box = [said]
        self.wait()
        with _connected():
            paddle.distributed.broadcast_object_list(box, src=0)
        return box[0]


def join() -> Ranks:
    """Meet the other processes that the launcher's variables name (`PADDLE_TRAINER_ID`, …); return once all are there.

    CPUs exchange through gloo, GPUs through NCCL.
    """
    world = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if world == 1:
        return Ranks()
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if not (paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    if rank:
        _until_heard(os.environ["PADDLE_MASTER"])
    paddle.distributed.init_parallel_env()
    return Ranks(rank, world)


def _until_heard(address: str) -> None:
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return
