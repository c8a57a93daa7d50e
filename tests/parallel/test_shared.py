"""Exchanges of real processes through memory they share: sums, and what happens when one does not come."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paddle import nn

from runner.kernels import native
from runner.parallel import Ranks, network, shared
from runner.parallel.replicas import replicate
from runner.parallel.sockets import Sockets
from runner.runs.protocol import SHARED
from tests.e2e.processes import ENVIRONMENT
from tests.parallel.sharing import SIZES, TURNS, arrays

SCRIPT = Path(__file__).with_name("sharing.py")
needs_kernels = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")


def said(world, what):
    """What each process printed, None where it was killed, and the seconds from the first end to the last."""
    descriptor = os.memfd_create("test")
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(world), what], stdout=subprocess.PIPE, text=True,
            env=ENVIRONMENT | {SHARED: str(descriptor), "OMP_NUM_THREADS": "1"}, pass_fds=[descriptor],
        )
        for rank in range(world)
    ]  # fmt: skip
    os.close(descriptor)
    found, ends = [], []
    # The last one is the one that may die.
    for process in reversed(processes):
        output, _ = process.communicate(timeout=60)
        ends.append(time.monotonic())
        assert process.returncode in (0, -signal.SIGKILL)
        found.append(json.loads(output) if process.returncode == 0 else None)
    return found[::-1], ends[-1] - ends[0]


@needs_kernels
@pytest.mark.parametrize("world", [2, 3])
def test_all_processes_get_the_same_means_summed_in_their_order(world):
    found, _ = said(world, "all_turns")
    for turn in range(TURNS):
        given = [arrays(rank, turn) for rank in range(world)]
        for number in range(len(SIZES)):
            total = given[0][number]
            for other in given[1:]:
                total = total + other[number]
            expected = np.float32(1 / world) * total
            for rank in range(world):
                np.testing.assert_array_equal(np.float32(found[rank][turn][number]), expected)


@needs_kernels
@pytest.mark.parametrize("world", [2, 3])
def test_a_process_that_dies_is_missed_at_once(world):
    found, seconds = said(world, "death")
    assert found == [f"process {world - 1} of the run is gone"] * (world - 1) + [None]
    assert seconds < 3


@needs_kernels
def test_a_process_that_does_not_come_counts_as_lost_after_the_limit():
    found, _ = said(2, "standstill")
    assert found == ["process 1 of the run did not respond for 0.5 s", None]


@needs_kernels
def test_a_signal_is_handled_and_the_wait_goes_on_without_computing():
    [[first, seconds, mean], [second, _, same]], _ = said(2, "interrupted")
    assert (first, second) == (1, 0)
    assert mean == same
    assert seconds < 0.2


class Agreeing(Ranks):
    """Two processes, of which the other one finds what it is told."""

    other = False

    def any_rank(self, flag):
        return flag or self.other


def test_without_memory_of_the_command_there_is_none(monkeypatch):
    monkeypatch.delenv(SHARED, raising=False)
    assert shared.memory(Agreeing(0, 2, Sockets(0, [])), 5) is None


def test_memory_is_used_by_all_processes_or_by_none(monkeypatch):
    descriptor = os.memfd_create("test")
    monkeypatch.setenv(SHARED, str(descriptor))
    assert shared.memory(Agreeing(0, 2, Sockets(0, [])), 5) is not None
    monkeypatch.setattr(Agreeing, "other", True)
    assert shared.memory(Agreeing(0, 2, Sockets(0, [])), 5) is None
    os.close(descriptor)
    monkeypatch.setattr(Agreeing, "other", False)
    assert shared.memory(Agreeing(0, 2, Sockets(0, [])), 5) is None


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "FlatAllReduce"), ("float64", "AveragedGradients")])
def test_gradients_are_one_array_of_float32_only_where_all_are_float32(monkeypatch, dtype, kind):
    monkeypatch.delenv(SHARED, raising=False)
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).to(dtype=dtype))
    replicas = replicate(network, Agreeing(0, 2, Sockets(0, [])), [], packed=True)
    assert type(replicas).__name__ == kind


def test_connections_of_the_store_and_no_others_send_at_once():
    with socket.create_server(("127.0.0.1", 0)) as store, socket.create_server(("127.0.0.1", 0)) as another:
        ends = []
        for listener in (store, another):
            here = socket.create_connection(listener.getsockname())
            ends += [here, listener.accept()[0]]
        network._send_at_once(store.getsockname()[1])
        at_once = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for end in ends]
        for end in ends:
            end.close()
    assert at_once == [1, 1, 0, 0]
