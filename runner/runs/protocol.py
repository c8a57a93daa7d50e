"""The protocol between a command and the workers of its run: variables, arguments, heartbeats, failures."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import child, files, stored
from ..errors import RunFailed
from .journal import LOG, RANKS

#: Bytes that a worker writes to its pipe: a heartbeat; all steps are done.
BEAT, TRAINED = b".", b"!"
#: Seconds between heartbeats while there are no steps.
BEAT_EVERY_S = 1.0
#: The variable with the number of that pipe.
HEARTBEAT = "RUNNER_HEARTBEAT"
#: The variable with the number of a file in memory that all workers of a run have.
SHARED = "RUNNER_SHARED"
#: The variable with the numbers of the sockets to other workers: of the first one to each, of the others to the first.
PEERS = "RUNNER_PEERS"
#: The variable with a digest of the config that the command of a process composed.
COMPOSED = "RUNNER_COMPOSED"
#: The variable with the message and exit code with which all processes end if the first one has nothing to train.
VERDICT = "RUNNER_VERDICT"


#: The file with the reason why a run ends early in its sweep, written by its first process.
EARLY = "stopped_early"
#: The command that starts a worker, without its arguments.
WORKER = child.command("runner.worker")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a worker: `python -m runner.worker RUN PARENT ATTEMPT`."""

    directory: Path
    """The run directory."""
    parent: int
    """Process id of the command."""
    attempt: int
    """Above 0 if the run was restarted because one of its processes was lost."""

    def command(self, worker: Sequence[str]) -> list[str]:
        """The command line of a worker."""
        return [*worker, str(self.directory), str(self.parent), str(self.attempt)]

    @classmethod
    def parse(cls, arguments: list[str]) -> Arguments:
        """From `sys.argv` without the program."""
        directory, parent, attempt = arguments
        return cls(Path(directory), int(parent), int(attempt))


class Heartbeat:
    """Heartbeats to the command that started this process, if there is one."""

    def __init__(self) -> None:
        number = os.environ.get(HEARTBEAT)
        self.pipe = int(number) if number else None

    def beat(self) -> None:
        """Send a heartbeat."""
        self._write(BEAT)

    @contextlib.contextmanager
    def behind_the_last_step(self) -> Iterator[None]:
        """Within the context `launch.timeout_s` does not apply to steps: training is done."""
        self._write(TRAINED)
        with self.beating():
            yield

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Send heartbeats from a thread within the context, so that work without steps does not count as stalled."""
        over = threading.Event()

        def beat_while_inside() -> None:
            while not over.wait(BEAT_EVERY_S):
                self.beat()

        threading.Thread(target=beat_while_inside, name="heartbeat", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _write(self, sign: bytes) -> None:
        if self.pipe is not None:
            # A pipe that was not read for long is already full of heartbeats.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self.pipe, sign)


@dataclass(frozen=True)
class Failure:
    """Why a process of a run ended."""

    message: str
    """For the user."""
    exit_code: int
    kind: str = ""
    """`errors.kind_of` of the raised error; empty unless it is a UserError."""


@dataclass(frozen=True)
class Answer:
    """The outcome of a command, for the Python program that started it."""

    directory: str | None = None
    """The folder of the run or the sweep, if there is one."""
    failure: Failure | None = None
    """Why it failed."""


def log_of(directory: Path, rank: int) -> Path:
    """The log file of a process of a run."""
    return directory / (f"{RANKS}/rank{rank}.log" if rank else LOG)


def clear_failure(directory: Path, rank: int) -> None:
    """Remove the failure file of an earlier attempt."""
    files.remove_file(_failure_file(directory, rank))


def write_failure(directory: Path, rank: int, message: str, exit_code: int, kind: str = "") -> None:
    """Write the failure file of a process for the command. On a full disk only the exit code remains."""
    with contextlib.suppress(OSError):
        files.write_json(_failure_file(directory, rank), asdict(Failure(message, exit_code, kind)))


def read_failure(directory: Path, rank: int) -> Failure | None:
    """The content of a process's failure file, or None. Errors: Damaged."""
    return stored.read_json(_failure_file(directory, rank), Failure)


def _failure_file(directory: Path, rank: int) -> Path:
    return directory / RANKS / f"failed.rank{rank}.json"


def clear_early_end(directory: Path) -> None:
    """Remove the note that an earlier attempt was ended early."""
    files.remove_file(directory / RANKS / EARLY)


def write_early_end(directory: Path, reason: str) -> None:
    """Note for the command why the run ends before its last step without a signal or a failure."""
    files.write_text(directory / RANKS / EARLY, reason)


def read_early_end(directory: Path) -> str:
    """Why the run was ended early, or an empty string. Errors: Damaged."""
    return stored.read_text(directory / RANKS / EARLY) or ""


def verdict(message: str, exit_code: int) -> str:
    """The value of `VERDICT`."""
    return json.dumps([message, exit_code])


def check_verdict() -> bool:
    """Whether the command of the first process found nothing left to train. Errors: RunFailed if it refused to."""
    verdict = os.environ.get(VERDICT)
    if verdict is None:
        return False
    message, exit_code = json.loads(verdict)
    if exit_code:
        raise RunFailed(message, exit_code)
    return True
