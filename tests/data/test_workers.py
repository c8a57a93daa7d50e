"""Processes that decode beside training: what they give, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.data import ImageFiles, Preparation
from runner.data.workers import decoded
from runner.errors import DataError, ProcessLost


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Thirty pictures that are as bright as their number."""
    root = tmp_path_factory.mktemp("pictures")
    paths = [root / f"{index:02}.png" for index in range(30)]
    for index, path in enumerate(paths):
        Image.new("RGB", (12, 9), (index, index, index)).save(path)
    return ImageFiles(paths, np.zeros(30, np.int64), Preparation(8, 8))


def children(process="self"):
    return Path(f"/proc/{process}/task/{os.getpid() if process == 'self' else process}/children").read_text().split()


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 5))
def test_every_batch_has_its_pictures_in_their_order(split, sizes, workers):
    order = np.resize(np.random.default_rng(0).permutation(30), sum(sizes))
    batches = np.split(order, np.cumsum(sizes)[:-1]) if sizes else []
    seen = 0
    for expected, (indices, pictures, places) in zip(batches, decoded(split, batches, workers), strict=True):
        np.testing.assert_array_equal(indices, expected)
        batch = pictures[places]
        assert batch.shape == (len(expected), 8, 8, 3)
        assert (batch == expected[:, None, None, None]).all()
        seen += len(batch)
    assert seen == len(order)


def test_what_is_decoded_ahead_is_bounded(split):
    batches = [np.arange(30)[:4]] * 200
    for number, (_, pictures, _) in enumerate(decoded(split, batches, 2)):
        assert len(pictures) < 5 * 4
        assert number < 200


def test_a_picture_that_cannot_be_read_is_named_when_its_batch_comes(split, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    paths = [split.pictures.read(index) for index in range(20)]
    paths[13] = str(tmp_path / "torn.png")
    broken = ImageFiles(paths, np.zeros(20, np.int64), Preparation(8, 8))
    epoch = decoded(broken, np.split(np.arange(20), 4), 2)
    assert len([next(epoch), next(epoch)]) == 2
    with pytest.raises(DataError, match=r"torn\.png"):
        next(epoch)


def test_no_process_outlives_an_epoch_that_is_abandoned(split):
    before = set(children())
    epoch = decoded(split, [np.arange(5)] * 6, 2)
    next(epoch)
    assert len(set(children()) - before) == 2
    epoch.close()
    assert set(children()) == before


def test_a_process_that_was_killed_is_reported(split):
    before = set(children())
    epoch = decoded(split, [np.arange(5)] * 500, 2)
    next(epoch)
    victim = int((set(children()) - before).pop())
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(ProcessLost, match=r"was killed \(SIGKILL\).*data\.workers"):
        list(epoch)
    assert set(children()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_of_them_does_not_end_them(split, number):
    before = set(children())
    epoch = decoded(split, [np.arange(5)] * 60, 2)
    next(epoch)
    for process in set(children()) - before:
        os.kill(int(process), number)
    assert len(list(epoch)) == 59


def test_two_epochs_at_once_do_not_meet(split):
    first, second = (decoded(split, [np.arange(begin, begin + 5)] * 40, 2) for begin in (0, 10))
    for (one, pictures, places), (other, others, their_places) in zip(first, second, strict=True):
        assert (pictures[places] == one[:, None, None, None]).all()
        assert (others[their_places] == other[:, None, None, None]).all()


KILLED = """
import os, sys
import numpy as np
from runner.data import ImageFiles, Preparation
from runner.data.workers import decoded
paths = [sys.argv[1]] * 100
batches = decoded(ImageFiles(paths, np.zeros(100, np.int64), Preparation(8, 8)), [np.arange(5)] * 20, 2)
next(batches)
print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read(), flush=True)
os.kill(os.getpid(), 9)
"""


def test_they_end_when_their_trainer_is_killed(split, tmp_path):
    # A file, because orphans would keep a pipe open.
    with (tmp_path / "children").open("w+") as listed:
        subprocess.run([sys.executable, "-c", KILLED, split.pictures.read(0)], stdout=listed, stderr=subprocess.DEVNULL)
        listed.seek(0)
        workers = [int(number) for number in listed.read().split()]
    assert workers
    limit = time.monotonic() + 6
    while any(map(is_running, workers)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
