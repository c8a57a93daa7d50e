"""Processes of this machine: what a child owes its parent, and files that one of them at a time has for itself."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import logging
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from . import stored
from .errors import ForeignPath

#: The longest time between two looks at a watch that is taken for what it says.
LONGEST_LOOK_S = 1.0

#: Seconds between two tries; seconds of waiting after which a person wants to know what for.
TRY_S, NOTE_S = 0.02, 5.0


class Stopwatch:
    """Seconds in which this process ran since it was started, or the watch begun again.

    Limits of what others may take are measured by it: while this process is stopped (Ctrl-Z, a paused container, a
    suspended job) they are as well, and so none of that time is theirs. It has to be looked at again and again.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from 0 again."""
        self._seconds, self._looked = 0.0, time.monotonic()

    def seconds(self) -> float:
        """The seconds until now, of which the time since the last look is `LONGEST_LOOK_S` at most."""
        now = time.monotonic()
        self._seconds += min(now - self._looked, LONGEST_LOOK_S)
        self._looked = now
        return self._seconds


def wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process, so many seconds in which this one runs. Whether it has ended."""
    waited = Stopwatch()
    while waited.seconds() < seconds:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(LONGEST_LOOK_S, seconds))
            return True
    return process.poll() is not None


def stopping() -> set[signal.Signals]:
    """The signals that ask a command to end; SIGHUP unless it was started to ignore that, as `nohup` does."""
    hangup = {signal.SIGHUP} - ({signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set())
    return {signal.SIGINT, signal.SIGTERM} | hangup


def exit_fast(code: int) -> NoReturn:
    """End this process with all that Python does at an exit, but without taking Paddle apart, which takes 0.4 s."""
    logging.shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when the one that started it dies (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def cannot_fork_workers() -> str:
    """Why this system cannot have processes forked that another one watches; empty where it can."""
    if sys.platform != "linux":
        return f"not on {sys.platform}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"this kernel has no descriptors of processes: {error.strerror}"
    return ""


def run_in_shielded_child(on_stop: Callable[[int], None], patience_s: float = 2.0) -> None:
    """Go on in a child, in a session of its own, while this process does nothing but hear signals and wait for it.

    Whatever libraries do with signals, and a terminal's Ctrl-C to the whole process group, do not reach the child nor
    what it starts. `on_stop` is called with the signal that asks this process to stop, again and again until the child
    ends; a second signal after `patience_s` seconds kills the child. The parent ends with the child's exit code.
    """
    sys.stdout.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.setsid()
        die_with_parent(parent)
        return
    stops = stopping()
    heard = {*stops, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    # Without a handler of its own it would be dropped.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    first, since = 0, Stopwatch()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        got = signal.sigtimedwait(heard, LONGEST_LOOK_S)
        waited = since.seconds()
        number = got.si_signo if got else 0
        if number in stops and not first:
            first = number
            since.begin()
        elif number in stops and waited > patience_s:
            os.kill(child, signal.SIGKILL)
        if first:
            on_stop(first)
    code = os.waitstatus_to_exitcode(ended[1])
    os._exit(code if code >= 0 else 128 + (first or -code))


def yield_cpu() -> None:
    """Leave the cores to whoever wants them. The lowest priority still takes a tenth of them from a running loop.

    Only Linux has a class below that, and it is taken only where `reclaim_cpu` can end it, since a machine full of
    other work would starve this process. A priority that was lowered stays so.
    """
    if sys.platform == "linux" and _may_reclaim_cpu():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def reclaim_cpu(process: int) -> None:
    """Give a process that stood back, and is waited for now, its share of the cores."""
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(process, os.SCHED_OTHER, os.sched_param(0))


def _may_reclaim_cpu() -> bool:
    """Whether this user may leave the idle class again: a child tries."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def locked(path: Path, patience_s: float = math.inf, long: Callable[[], None] = lambda: None) -> Iterator[int | None]:
    """The descriptor of a file that this process has locked; None where another has it for longer than the patience.

    `long` is called once where it takes long. Errors: OSError where the file cannot be written,
    ForeignPath for a link or a folder.
    """
    if path.is_symlink() or path.is_dir():
        raise ForeignPath(f"{path} is in the way: it is not a file of this program. Move it away.")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor if lock(descriptor, patience_s, long) else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process has a file locked; what may not be written can be asked about too. Errors: Damaged."""
    with stored.opened(path) as stream:
        if stream is None:
            return False
        try:
            # Shared, since several may ask at once, and none of them is the one that works on it.
            fcntl.flock(stream.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def lock(descriptor: int, patience_s: float = math.inf, long: Callable[[], None] = lambda: None) -> bool:
    """Lock an open file until it is closed. Whether that was possible within the patience; the rest as in `locked`."""
    waited, noted = Stopwatch(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if waited.seconds() >= patience_s:
                return False
        if not noted and waited.seconds() > NOTE_S:
            noted = True
            long()
        time.sleep(TRY_S)


def compilers() -> list[str]:
    """The commands that may be the C++ compiler: what CXX says, else the usual ones."""
    return [os.environ["CXX"]] if os.environ.get("CXX", "").strip() else ["g++", "clang++"]


def compiler() -> list[str]:
    """The words of the first of them that is there; none where there is no compiler."""
    for command in compilers():
        with contextlib.suppress(ValueError):
            words = shlex.split(command)
            if words and shutil.which(words[0]):
                return words
    return []
