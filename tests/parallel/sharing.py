"""One process of several that share memory: exchanges as it is told and prints what came of it as JSON.

python sharing.py RANK WORLD WHAT, with RUNNER_SHARED; WHAT is one of the functions below.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np

from runner.parallel import PeerLost, Ranks, shared
from runner.parallel.sockets import Sockets
from runner.runs.protocol import SHARED

SIZES = np.array([1, 15, 16, 0, 17, 333, 4096, 5], dtype=np.int64)
TURNS = 5


def arrays(rank: int, turn: int) -> list[np.ndarray]:
    generator = np.random.default_rng([rank, turn])
    return [generator.standard_normal(size, dtype=np.float32) for size in SIZES]


def exchanged(memory: shared.Memory, turn: int) -> list[np.ndarray]:
    own = arrays(memory.ranks.rank, turn)
    addresses = np.array([array.ctypes.data for array in own], dtype=np.uint64)
    memory.average(len(own), addresses.ctypes.data, SIZES.ctypes.data)
    return own


def all_turns(memory):
    """As fast as it goes, but each process is late in its turn."""
    said = []
    for turn in range(TURNS):
        if turn % memory.ranks.world_size == memory.ranks.rank:
            time.sleep(0.05)
        said.append([array.tolist() for array in exchanged(memory, turn)])
    return said


def death(memory):
    """The last process is killed behind its first exchange."""
    exchanged(memory, 0)
    if memory.ranks.rank == memory.ranks.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return lost(memory)


def standstill(memory):
    """The last process does not come for longer than one waits for it."""
    shared.LIMIT_S = 0.5
    if memory.ranks.rank == memory.ranks.world_size - 1:
        time.sleep(2)
        return None
    return lost(memory)


def lost(memory):
    try:
        exchanged(memory, 1)
    except PeerLost as error:
        return str(error)


def interrupted(memory):
    """A signal comes while this process waits for the last one. Signals, seconds of computing, and the first array."""
    signals = []
    signal.signal(signal.SIGALRM, lambda number, frame: signals.append(number))
    exchanged(memory, 0)
    if memory.ranks.rank == memory.ranks.world_size - 1:
        time.sleep(1)
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.process_time()
    own = exchanged(memory, 1)
    return [len(signals), time.process_time() - began, own[0].tolist()]


if __name__ == "__main__":
    rank, world, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    memory = shared.Memory(Ranks(rank, world, Sockets(rank, [])), int(os.environ[SHARED]), int(SIZES.sum()))
    print(json.dumps(globals()[what](memory)))
