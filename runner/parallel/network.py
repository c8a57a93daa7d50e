"""Transport for processes on several machines, under other launchers or on GPUs: gloo or NCCL."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor

from ..errors import ConfigError, ProcessLost
from .sockets import PeerLost

#: Counter of barriers.
_meetings = itertools.count()
#: Seconds between two checks whether the first process listens. Paddle 3.3.1 itself waits 3 s after a first refusal.
POLL_S = 0.02


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Convert errors of a collective to PeerLost: Paddle raises them if another process is gone."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        raise PeerLost(f"the connection to another process broke: {error}") from error


class Network:
    """All processes of a run, wherever they are."""

    def __init__(self, rank: int, world: int, address: str) -> None:
        """address: HOST:PORT where the first process listens.

        Errors: ConfigError for an address that cannot be used, ProcessLost if the processes do not all connect.
        """
        self.rank, self.world = rank, world
        host, _, port = address.rpartition(":")
        _check(host, int(port), is_first=not rank)
        if rank:
            _retry_until_connected(host, int(port))
        try:
            paddle.base.core.create_or_get_global_tcp_store()
            _send_at_once(int(port))
            paddle.distributed.init_parallel_env()
        except (RuntimeError, OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ProcessLost(f"The processes cannot meet at {address} (launch.master): {reason}") from error

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """The sum over all processes, in place."""
        with _connected():
            paddle.distributed.all_reduce(tensor)

    def all_reduce_max(self, tensor: Tensor) -> None:
        """The largest values over all processes, in place."""
        with _connected():
            paddle.distributed.all_reduce(tensor, paddle.distributed.ReduceOp.MAX)

    def barrier_without_timeout(self) -> None:
        """Barrier without a timeout; gloo's own gives up after 30 s."""
        store, meeting = paddle.base.core.create_or_get_global_tcp_store(), next(_meetings)
        with _connected():
            if store.add(f"runner/{meeting}/came", 1) == self.world:
                store.set(f"runner/{meeting}/all", "1")
            store.get(f"runner/{meeting}/all")
        left = f"runner/{meeting}/left"
        if self.rank == 0:
            # The first process holds the store, and may end after this.
            with _connected():
                while store.add(left, 0) < self.world - 1:
                    time.sleep(POLL_S / 20)
        else:
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                store.add(left, 1)

    def broadcast(self, message: Any) -> Any:
        """The first process's value; it has to be picklable."""
        box = [message]
        self.barrier_without_timeout()
        with _connected():
            paddle.distributed.broadcast_object_list(box, src=0)
        return box[0]


def _check(host: str, port: int, is_first: bool) -> None:
    """Errors: ConfigError if the address is invalid, or if the first process cannot listen there."""
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


def _retry_until_connected(host: str, port: int) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return


def _send_at_once(port: int) -> None:
    """Set TCP_NODELAY on the connections of the store at a port.

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
