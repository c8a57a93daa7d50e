"""Means over the processes of one machine, through shared memory that the command provides."""

from __future__ import annotations

import contextlib
import math
import mmap
import os

import numpy as np

from ..kernels import native
from ..processes import Stopwatch
from ..runs.protocol import SHARED
from .ranks import Ranks
from .sockets import PeerLost

#: A rank's barrier counter; `Seat` of src/shared.cc.
SEAT = np.dtype({"names": ["came", "process"], "formats": [np.uint32, np.int32], "itemsize": 64})
#: Seconds after which a missing rank counts as lost, as in gloo; seconds between two checks whether it is alive.
LIMIT_S, LOOK_S = 30.0, 0.1


class Memory:
    """Shared memory of a run's processes: a slot per rank, double-buffered arrays.

    Double-buffered, since the next exchange begins while others still read the results of this one.
    """

    def __init__(self, ranks: Ranks, descriptor: int, size: int) -> None:
        """size: float32 numbers of an exchange, the same in all processes. Errors: OSError."""
        self.ranks = ranks
        self.turn = 0
        self.stride = 16 * math.ceil(size / 16)
        seats = SEAT.itemsize * ranks.world_size
        areas = 4 * self.stride * ranks.world_size
        os.ftruncate(descriptor, seats + 2 * areas)
        self.mapping = np.frombuffer(mmap.mmap(descriptor, seats + 2 * areas), np.uint8)
        self.seats = self.mapping[:seats].view(SEAT)
        self.areas = [self.mapping.ctypes.data + seats + number * areas for number in (0, 1)]
        self.seats["process"][ranks.rank] = os.getpid()

    def average(self, count: int, arrays: int, sizes: int) -> None:
        """Average arrays over all processes, in place, with the same bits in each.

        arrays, sizes: addresses of `count` addresses of float32 arrays and of their int64 sizes. Errors: PeerLost.
        """
        self.turn += 1
        kernels, area = native.kernels(), self.areas[self.turn % 2]
        world, own = self.ranks.world_size, self.ranks.rank
        kernels.gather(count, arrays, sizes, area + 4 * self.stride * own)
        self._meet()
        kernels.average(count, arrays, sizes, area, self.stride, world, own, 1 / world)

    def _meet(self) -> None:
        waited = Stopwatch()
        while (late := self._missing()) is not None:
            if waited.seconds() > LIMIT_S:
                raise PeerLost(f"process {late} of the run did not respond for {LIMIT_S:g} s")
            try:
                os.kill(self.seats["process"][late], 0)
            except ProcessLookupError:
                # It may have arrived just before it ended.
                if self._missing() == late:
                    raise PeerLost(f"process {late} of the run is gone") from None

    def _missing(self) -> int | None:
        """Arrive at the barrier and wait briefly; returns a rank still missing."""
        late = native.kernels().meet(
            self.mapping.ctypes.data, self.ranks.world_size, self.ranks.rank, self.turn & 0xFFFFFFFF, int(LOOK_S * 1e9)
        )
        return None if late < 0 else late


def memory(ranks: Ranks, size: int) -> Memory | None:
    """The memory of a run for exchanges of `size` float32 numbers; None, in all its processes, if one has none.

    There is none if the command did not start all of them: on several machines, or under another launcher.
    """
    own: Memory | None = None
    descriptor = os.environ.get(SHARED)
    if descriptor:
        with contextlib.suppress(OSError):
            own = Memory(ranks, int(descriptor), size)
    return None if ranks.any_rank(own is None) else own
