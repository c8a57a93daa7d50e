"""Processes of this machine: signals, parent death, scheduling, file locks, standard error."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import io
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
from .errors import ConfigError, ForeignPath

#: The longest time between two polls that counts in full.
LONGEST_LOOK_S = 1.0

#: Seconds between two tries; seconds of waiting after which a person wants to know what for.
TRY_S, NOTE_S = 0.02, 5.0


def require_working_directory() -> None:
    """Errors: ConfigError if the working directory was removed, where no relative path means anything."""
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"There is no working directory: {error.strerror}. It was removed or cannot be read; change to another "
            "folder, as with cd DIR, then repeat the command."
        ) from error


class Stopwatch:
    """A timer that excludes time in which this process was suspended; it has to be polled.

    Timeouts of other processes use it: while this one is suspended (Ctrl-Z, a paused container, a suspended job), so
    are they.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Restart from 0."""
        self._seconds, self._looked = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Seconds so far; the time since the last poll counts for `LONGEST_LOOK_S` at most."""
        now = time.monotonic()
        self._seconds += min(now - self._looked, LONGEST_LOOK_S)
        self._looked = now
        return self._seconds


def wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process up to this many seconds of unsuspended time. Returns whether it has ended."""
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


def draw_without_a_screen() -> None:
    """Have matplotlib draw into files, in this process and those it starts.

    It must be called before the first import of matplotlib, which fails if the environment names a backend that is not
    installed, as that of a notebook may.
    """
    os.environ["MPLBACKEND"] = "agg"


def exit_fast(code: int) -> NoReturn:
    """Run Python's exit handlers and end this process without Paddle's teardown, which takes 0.4 s."""
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
    """Why this system cannot fork and watch worker processes; empty if it can."""
    if sys.platform != "linux":
        return f"not on {sys.platform}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"this kernel has no descriptors of processes: {error.strerror}"
    return ""


def run_in_shielded_child(on_stop: Callable[[int], None], patience_s: float = 2.0) -> None:
    """Continue in a child with its own session, while this process only handles signals and waits for it.

    Neither a terminal's Ctrl-C to the process group nor libraries' signal handling reach the child and its children.
    `on_stop` is called with the signal that asks this process to stop, again and again until the child ends; a second
    signal after `patience_s` seconds kills the child. The parent ends with the child's exit code.
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
    """Yield the cores to other processes. Even the lowest nice level takes a tenth of them from a running loop.

    Only Linux has a class below that, the idle class. It is used only if `reclaim_cpu` can leave it, since a busy
    machine would starve this process. A nice level that was lowered stays so.
    """
    if sys.platform == "linux" and _may_reclaim_cpu():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def reclaim_cpu(process: int) -> None:
    """Undo `yield_cpu` for a process that is now waited for."""
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(process, os.SCHED_OTHER, os.sched_param(0))


def _may_reclaim_cpu() -> bool:
    """Whether this user may leave the idle class again, tried in a child."""
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
    """Lock a file; returns its descriptor, or None if another process holds it longer than the patience.

    `long` is called once if that takes long. Errors: OSError where the file cannot be written,
    ForeignPath for a link or a folder.
    """
    if path.is_symlink() or path.is_dir():
        raise ForeignPath(f"{path} is in the way: it is not a file of this program. Move it away.")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor if lock(descriptor, patience_s, long) else None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(path: Path, patience_s: float = math.inf) -> Iterator[bool]:
    """Lock a folder itself, so that no file is left in it. Returns whether that succeeded within the patience.

    File systems that cannot lock folders (NFS) let everybody in. Errors: OSError for a folder that cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            is_ours = lock(descriptor, patience_s)
        except OSError:
            is_ours = True
        yield is_ours
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds a file's lock; works for read-only files too. Errors: Damaged."""
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
    """Lock an open file until it is closed. Returns whether that succeeded within the patience; see `locked`."""
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
    """Candidate commands of the C++ compiler: CXX, else the usual ones."""
    return [os.environ["CXX"]] if os.environ.get("CXX", "").strip() else ["g++", "clang++"]


def compiler() -> list[str]:
    """The words of the first that exists; empty if there is no compiler."""
    for command in compilers():
        with contextlib.suppress(ValueError):
            words = shlex.split(command)
            if words and shutil.which(words[0]):
                return words
    return []


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Nothing is written to descriptor 2 in the context, also by C++. A program may have none, or another stream."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    kept = None
    with contextlib.suppress(OSError):
        kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        # Without a stream what is printed to it would be on standard output.
        with contextlib.nullcontext() if sys.stderr else contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if nowhere != 2:
            os.close(nowhere)
        if kept is None:
            os.close(2)
        else:
            os.dup2(kept, 2)
            os.close(kept)
