"""Messages over the sockets of a command: the same bits everywhere, of any size, and an end where one is gone."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest

from runner.errors import ConfigError, RunFailed
from runner.launch.workers import _connected
from runner.parallel import PeerLost, Ranks
from runner.parallel.sockets import Sockets


def ranks(world):
    """The processes of a run; each is to have a thread of its own."""
    ends = _connected(world)
    return [Ranks(rank, world, Sockets(rank, [end.detach() for end in own])) for rank, own in enumerate(ends)]


def said(group, each):
    """What `each` returns of every process, or raises there."""

    def one(member):
        try:
            return each(member)
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(group)) as pool:
        return list(pool.map(one, group))


@pytest.mark.parametrize("world", [2, 3, 9])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (1 << 20,)], ids=str)
def test_sums_are_those_in_the_order_of_the_processes_with_the_same_bits_in_each(world, shape):
    given = [np.random.default_rng(rank).standard_normal(shape).astype(np.float32) for rank in range(world)]
    expected = given[0]
    for other in given[1:]:
        expected = expected + other
    for found in said(ranks(world), lambda member: member.all_reduce_sum(paddle.to_tensor(given[member.rank])).numpy()):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_the_largest_values_are_found(dtype):
    given = [paddle.to_tensor([1, -5, 7], dtype), paddle.to_tensor([-1, 3, 7], dtype)]
    for found in said(ranks(2), lambda member: member.all_reduce_max(given[member.rank])):
        assert found.dtype == given[0].dtype
        assert found.tolist() == [1, 3, 7]


def test_means_are_taken_of_tensors_of_several_dtypes_at_once():
    given = [[paddle.full([2, 2], rank), paddle.full([3], 2.0 * rank, "float64")] for rank in range(2)]
    said(ranks(2), lambda member: member.average(given[member.rank]))
    for single, double in given:
        assert single.tolist() == [[0.5, 0.5], [0.5, 0.5]]
        assert double.tolist() == [1.0] * 3
        assert double.dtype == paddle.float64


def test_all_hear_what_the_first_process_makes():
    assert (
        said(ranks(3), lambda member: member.broadcast_from_first(lambda: {"made by": member.rank}))
        == [{"made by": 0}] * 3
    )


def test_all_hear_why_the_first_process_cannot():
    def refused():
        raise ConfigError("no such thing")

    first, second = said(ranks(2), lambda member: member.broadcast_from_first(refused))
    assert isinstance(first, ConfigError)
    assert isinstance(second, RunFailed)
    assert (str(second), second.exit_code) == ("no such thing", 2)


@pytest.mark.parametrize("gone", [0, 1])
def test_who_waits_for_a_process_that_ends_hears_of_it_at_once(gone):
    group = ranks(2)

    def each(member):
        if member.rank == gone:
            for connection in member.transport.connections:
                connection.close()
            return None
        return member.barrier()

    assert isinstance(said(group, each)[1 - gone], PeerLost)


@pytest.mark.parametrize("sent", [b"\0\0", b"\0\0\0\0\0\0\0\5abc"], ids=["head", "body"])
def test_a_message_that_breaks_off_is_a_lost_process(sent):
    [[here], [there]] = _connected(2)
    there.sendall(sent)
    there.close()
    with pytest.raises(PeerLost, match="connection to another process broke"):
        Ranks(0, 2, Sockets(0, [here.detach()])).barrier_without_timeout()


def test_sockets_are_not_passed_on_to_what_a_process_starts():
    [[here], [there]] = _connected(2)
    here.set_inheritable(True)
    [connection] = Sockets(0, [here.detach()]).connections
    assert not connection.get_inheritable()
    assert connection.family == socket.AF_UNIX
    there.close()
    connection.close()
