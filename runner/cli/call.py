"""Runs a command for a Python program: shows its output and raises its error.

It is a child process, so that what it does with signals, the environment, logging or Hydra does not affect the caller,
which may be a thread.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import child, stored
from ..errors import STOPPED, ProcessLost, of_kind
from ..runs.protocol import Answer, Failure

#: Seconds between two polls of the process, and bytes read at once.
LOOK_S, CHUNK = 0.2, 65536


def call(kind: str, arguments: Sequence[str]) -> Path | None:
    """Run `train`, `sweep` or a verb with arguments; returns the folder of the run or sweep, if there is one.

    Ctrl-C or an interrupted notebook kernel lets the run write a checkpoint and end; a second one kills it.
    Errors: the UserError that it ended with; KeyboardInterrupt, which says how to resume, if it was interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="runner-call-") as folder:
        place = Path(folder) / "answer.json"
        # A terminal is inherited, for its progress bar; a notebook's cell gets the output from here.
        terminal_of_caller = _terminal()
        process = subprocess.Popen(
            child.command("runner.cli.called", str(place), str(os.getpid()), kind, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if terminal_of_caller is None else terminal_of_caller,
            stderr=subprocess.STDOUT,
            # A signal to the caller's process group reaches the caller alone, which passes it on.
            start_new_session=True,
        )
        interrupted = _wait(process)
        answer = stored.read_json(place, Answer) or Answer(failure=_lost(kind, process.returncode))
    if answer.failure is None:
        return Path(answer.directory) if answer.directory else None
    message = answer.failure.message.strip()
    if interrupted and answer.failure.exit_code in STOPPED:
        raise KeyboardInterrupt(message)
    raise of_kind(answer.failure.kind, message, answer.failure.exit_code)


def _terminal() -> int | None:
    """The descriptor of standard output if it is a terminal; programs put all kinds of objects in its place."""
    try:
        descriptor: int = sys.stdout.fileno()
        return descriptor if sys.stdout.isatty() and os.isatty(descriptor) else None
    except (AttributeError, OSError, ValueError, TypeError):
        return None


def _lost(kind: str, code: int) -> Failure:
    """The error for a process that exited without an answer."""
    if -code in (signal.SIGINT, signal.SIGTERM):
        return Failure(f"Stopped by {STOPPED[128 - code]}.", 128 - code)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Failure(f"The process of {kind} ended with {how}.", ProcessLost.exit_code, ProcessLost.__name__)


def _wait(process: subprocess.Popen[bytes]) -> bool:
    """Show what a process prints until it has ended. Returns whether it was interrupted from here."""
    interrupted = False
    screen = _Screen()
    try:
        while process.returncode is None:
            try:
                _follow(process, screen)
            except KeyboardInterrupt:
                interrupted = True
                process.send_signal(signal.SIGINT)
    finally:
        if process.poll() is None:
            # An error of the caller's own stream: nobody would know of the run.
            process.terminate()
            process.wait()
        if process.stdout:
            process.stdout.close()
    return interrupted


def _follow(process: subprocess.Popen[bytes], screen: _Screen) -> None:
    if process.stdout is None:
        process.wait()
        return
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while process.poll() is None:
            if selector.select(LOOK_S) and not _show(process.stdout.fileno(), screen):
                process.wait()
    # The mirror may hold the pipe open for longer.
    while _show(process.stdout.fileno(), screen):
        pass


def _show(pipe: int, screen: _Screen) -> bool:
    """Pass on what can be read without waiting. Returns whether there may be more."""
    content = b""
    with contextlib.suppress(BlockingIOError):
        content = os.read(pipe, CHUNK)
    if content:
        screen.write(content)
    return bool(content)


class _Screen:
    """The caller's standard output. What it cannot take is dropped, as `terminal.protect_streams` does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._takes_text = True

    def write(self, content: bytes) -> None:
        """Show what a process printed, UTF-8; characters that the stream's encoding lacks come out escaped."""
        text, stream = self._decoder.decode(content), sys.stdout
        if stream is None or not self._takes_text:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            if flush := getattr(stream, "flush", None):
                flush()
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            # A closed stream, a full disk or an object that is no stream: the run goes on.
            self._takes_text = False
