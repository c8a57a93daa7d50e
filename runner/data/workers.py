"""Worker processes that decode images in parallel with training, into shared memory."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np

from ..errors import ProcessLost
from ..processes import die_with_parent
from .augment.geometry import Crops, no_crop
from .cache import shared_memory
from .splits import ImageFiles

#: Pieces into which an epoch's window is divided; a process decodes one piece at a time.
PIECES = 64
#: Signals to the process group that only the trainer handles.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Bytes of a number in a pipe, and numbers that fit into a pipe before the writer blocks.
_NUMBER, _PIPE = 8, 512


def decoded(
    split: ImageFiles, batches: list[np.ndarray], workers: int, crops: Crops = no_crop
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(indices, images uint8 [T, H, W, C], their positions in them) for every batch of indices, valid until the next.

    An image's position is its position in the epoch modulo T, so that at most T are decoded or in use at a time,
    whatever the length of the epoch. `crops` has the crop at each position. Errors: DataError naming an image;
    ProcessLost.
    """
    order = np.concatenate([*batches, np.empty(0, np.int64)])
    largest = max(map(len, batches), default=0)
    window = largest + 2 * max(largest, workers)
    piece = -(-window // min(max(PIECES, 4 * workers), _PIPE // 2))
    pictures = shared_memory((window + piece, *split.shape))
    count = -(-len(order) // piece)

    def decode(number: int) -> list[int]:
        """Decode one piece; returns the positions of those that failed."""
        failed = []
        for position in range(number * piece, min((number + 1) * piece, len(order))):
            try:
                pictures[position % len(pictures)] = split.decode(order[position], crops(position))
            except Exception:
                failed.append(position)
        return failed

    ready, failed = np.zeros(count, dtype=bool), set()
    requested = begin = 0
    with _processes(min(workers, count), decode) as (tasks, answers):
        for indices in batches:
            end = begin + len(indices)
            room = min(count, (begin + len(pictures)) // piece)
            os.write(tasks, np.arange(requested, room, dtype=np.int64).tobytes())
            requested = room
            while not ready[begin // piece : -(-end // piece)].all():
                for number in answers():
                    if number < 0:
                        failed.add(-1 - number)
                    else:
                        ready[number] = True
            for position in sorted(failed.intersection(range(begin, end))):
                # The worker's error is not known here: decoding again raises it.
                pictures[position % len(pictures)] = split.decode(order[position], crops(position))
            yield indices, pictures, np.arange(begin, end) % len(pictures)
            begin = end


@contextlib.contextmanager
def _processes(count: int, work: Callable[[int], list[int]]) -> Iterator[tuple[int, Callable[[], Iterator[int]]]]:
    """Processes that do `work` with numbers; they end with the context.

    Returns the pipe to write numbers to, and a function that waits for an answer: a number that is done, preceded by -1
    - p for every p that `work` returned.
    """
    parent, (tasks, numbers) = os.getpid(), os.pipe()
    # The reading end of a pipe of answers → the only process that has its other end.
    processes: dict[int, int] = {}
    poll = select.poll()

    def answers() -> Iterator[int]:
        for pipe, _ in poll.poll():
            answer = os.read(pipe, _NUMBER * _PIPE)
            if not answer:
                os.close(pipe)
                raise _lost(processes.pop(pipe))
            yield from np.frombuffer(answer, dtype=np.int64).tolist()

    try:
        for _ in range(count):
            pipe, theirs = os.pipe()
            # Signals are blocked until the new process ignores them.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
            try:
                process = os.fork() or _serve(parent, tasks, theirs, work, blocked)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(theirs)
            processes[pipe] = process
            poll.register(pipe, select.POLLIN)
        yield numbers, answers
    finally:
        for pipe, process in processes.items():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            os.close(pipe)
        os.close(tasks)
        os.close(numbers)


def _serve(
    parent: int, tasks: int, answers: int, work: Callable[[int], list[int]], blocked: set[int | signal.Signals]
) -> NoReturn:
    try:
        for stop in STOPS:
            signal.signal(stop, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        die_with_parent(parent)
        while task := os.read(tasks, _NUMBER):
            number = int.from_bytes(task, sys.byteorder)
            os.write(answers, np.array([*(-1 - failed for failed in work(number)), number], np.int64).tobytes())
    finally:
        os._exit(1)


def _lost(process: int) -> ProcessLost:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
    return ProcessLost(
        f"A process that decodes pictures {how}, as the system does when memory is short. Lower data.workers or "
        "data.batch_size; data.workers=0 decodes in the training process."
    )
