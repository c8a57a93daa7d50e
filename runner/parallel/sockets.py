"""Transport between the processes of one machine, over sockets from the command: no port is opened."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

#: The header of a message: its length.
_HEAD = struct.Struct("!Q")


class PeerLost(BaseException):
    """The connection to another process of the run broke."""


class Sockets:
    """A star: the first process is connected to each other one. It combines the values of all, in order of rank.

    They wait for each other without a timeout: the command that started them all watches for stalls.
    """

    def __init__(self, rank: int, descriptors: Sequence[int]) -> None:
        """descriptors: of the first process one for each other process in their order, of the others the one to it."""
        self.rank = rank
        self.connections = [socket.socket(fileno=number) for number in descriptors]
        for number in descriptors:
            os.set_inheritable(number, False)

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """The sum over all processes, in place, with the same bits in each."""
        self._reduce(tensor, np.add)

    def all_reduce_max(self, tensor: Tensor) -> None:
        """The largest values over all processes, in place."""
        self._reduce(tensor, np.maximum)

    def barrier_without_timeout(self) -> None:
        """Barrier."""
        self._combine(b"", lambda contents: b"")

    def broadcast(self, message: Any) -> Any:
        """What the first process says; it has to survive pickling."""
        own = b"" if self.rank else pickle.dumps(message)
        return pickle.loads(self._combine(own, lambda parts: parts[0]))

    def _reduce(self, tensor: Tensor, operation: np.ufunc) -> None:
        own = tensor.numpy()

        def combined(parts: list[bytes]) -> bytes:
            # Not `operation.reduce`, whose order NumPy chooses.
            result = own.copy()
            for part in parts[1:]:
                operation(result, np.frombuffer(part, own.dtype).reshape(own.shape), out=result)
            return result.tobytes()

        answer = self._combine(own.tobytes(), combined)
        paddle.assign(paddle.to_tensor(np.frombuffer(answer, own.dtype).reshape(own.shape)), tensor)

    def _combine(self, own: bytes, combined: Callable[[list[bytes]], bytes]) -> bytes:
        """The first process's combination of all values. Errors: PeerLost."""
        with _connected():
            if self.rank:
                _send(self.connections[0], own)
                return _receive(self.connections[0])
            answer = combined([own, *map(_receive, self.connections)])
            for connection in self.connections:
                _send(connection, answer)
            return answer


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PeerLost(f"the connection to another process broke: {error}") from error


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(_HEAD.pack(len(message)))
    connection.sendall(message)


def _receive(connection: socket.socket) -> bytes:
    [size] = _HEAD.unpack(_bytes(connection, _HEAD.size))
    return bytes(_bytes(connection, size))


def _bytes(connection: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    left = memoryview(content)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise ConnectionError("the other process is gone")
        left = left[count:]
    return content
