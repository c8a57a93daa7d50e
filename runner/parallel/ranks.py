"""Which process of a run this one is, and what it exchanges with the others."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import paddle
from paddle import Tensor

from ..errors import ConfigError, ProcessLost, RunFailed, UserError

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
        return flag if self.world == 1 else bool(self.total(paddle.to_tensor([int(flag)])).item())

    def meet(self) -> None:
        """Return once every process has come here. Errors: PeerLost at once where one is gone."""
        self.any(False)

    def wait(self) -> None:
        """Return once every process has come here, however long that takes, where gloo would give up after 30 s."""
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


#: A run of one process.
ALONE = Ranks()


def join() -> Ranks:
    """Meet the other processes that the launcher's variables name (`PADDLE_TRAINER_ID`, …); return once all are there.

    CPUs exchange through gloo, GPUs through NCCL. Errors: ConfigError for an address that cannot be used, ProcessLost
    where they do not come together.
    """
    world = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if world == 1:
        return ALONE
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if not (paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    address = os.environ["PADDLE_MASTER"]
    host, _, port = address.rpartition(":")
    _check(host, int(port), is_first=not rank)
    if rank:
        _until_heard(host, int(port))
    try:
        paddle.base.core.create_or_get_global_tcp_store()
        _send_at_once(int(port))
        paddle.distributed.init_parallel_env()
    except (RuntimeError, OSError, ValueError) as error:
        raise ProcessLost(
            f"The processes cannot meet at {address} (launch.master): {str(error).strip().splitlines()[0]}"
        ) from error
    return Ranks(rank, world)


def _check(host: str, port: int, is_first: bool) -> None:
    """Errors: ConfigError where the address is none, or not one where this process can listen if it is the first."""
    try:
        where = socket.gethostbyname(host)
    except OSError as error:
        raise ConfigError(f"launch.master={host}:{port}: this machine does not know {host} ({error}).") from error
    if is_first:
        try:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((where, port))
        except OSError as error:
            raise ConfigError(
                f"launch.master={host}:{port}: the first process cannot listen there ({error.strerror}). It has to be "
                "an address of the machine with launch.rank=0, and a port that nobody uses."
            ) from error


def _until_heard(host: str, port: int) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return


def _send_at_once(port: int) -> None:
    """Let the connections of the store at a port send every message at once.

    Paddle 3.3.1 writes a message in pieces and leaves Nagle's algorithm on: each answer takes 40 ms, two for a value.
    """
    with contextlib.suppress(OSError):
        for entry in list(Path("/proc/self/fd").iterdir()):
            # Others may be closed meanwhile, or be no connections.
            with contextlib.suppress(OSError):
                connection = socket.socket(fileno=int(entry.name))
                try:
                    tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
                    if tcp and port in (connection.getsockname()[1], connection.getpeername()[1]):
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                finally:
                    connection.detach()
