"""What a command and the worker processes of its run say to each other: variables, arguments, heartbeats, failures."""

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

#: What a worker writes to its pipe: something was done; all steps were done.
BEAT, TRAINED = b".", b"!"
#: Seconds between the heartbeats of a process that has no steps to do.
BEAT_EVERY_S = 1.0
#: The variable with the number of that pipe.
HEARTBEAT = "RUNNER_HEARTBEAT"
#: The variable with the number of a file in memory that all workers of a run have.
SHARED = "RUNNER_SHARED"
#: The variable with the numbers of the sockets to other workers: of the first one to each, of the others to the first.
PEERS = "RUNNER_PEERS"
#: The variable with a digest of the config that the command of a process composed.
COMPOSED = "RUNNER_COMPOSED"
#: The variable with the message and exit code with which all processes end where the first one has nothing to train.
VERDICT = "RUNNER_VERDICT"


#: The file in which the first process of a run says why it ends early in its sweep.
EARLY = "stopped_early"
#: What starts a worker; its arguments follow.
WORKER = child.command("runner.worker")


@dataclass(frozen=True)
class Arguments:
    """What a worker is started with: `python -m runner.worker RUN PARENT ATTEMPT`."""

    directory: Path
    """The run directory."""
    parent: int
    """Process id of the command."""
    attempt: int
    """Above 0 where the run was restarted because one of its processes was lost."""

    def command(self, worker: Sequence[str]) -> list[str]:
        """The command line of a worker."""
        return [*worker, str(self.directory), str(self.parent), str(self.attempt)]

    @classmethod
    def parse(cls, arguments: list[str]) -> Arguments:
        """From `sys.argv` without the program."""
        directory, parent, attempt = arguments
        return cls(Path(directory), int(parent), int(attempt))


class Heartbeat:
    """Signs of life to the command that started this process; none where there is no such command."""

    def __init__(self) -> None:
        number = os.environ.get(HEARTBEAT)
        self.pipe = int(number) if number else None

    def beat(self) -> None:
        """Something was done."""
        self._write(BEAT)

    @contextlib.contextmanager
    def behind_the_last_step(self) -> Iterator[None]:
        """Within the context no step has to be finished in time: training is done."""
        self._write(TRAINED)
        with self.beating():
            yield

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Within the context a thread sends heartbeats, so that work without steps does not count as stalled."""
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
            # A pipe that nobody has emptied for long is full of signs already.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self.pipe, sign)


@dataclass(frozen=True)
class Failure:
    """Why a process of a run ended."""

    message: str
    """For the user."""
    exit_code: int
    kind: str = ""
    """`errors.kind_of` the error that was raised; empty for one that is no UserError."""


@dataclass(frozen=True)
class Answer:
    """What became of a command, for the Python program that started it."""

    directory: str | None = None
    """The folder of the run or the sweep; None where there is none."""
    failure: Failure | None = None
    """Why it did not do what it was to do."""


def log_of(directory: Path, rank: int) -> Path:
    """Where a process of a run writes its log."""
    return directory / (f"{RANKS}/rank{rank}.log" if rank else LOG)


def clear_failure(directory: Path, rank: int) -> None:
    """Forget why an earlier attempt of a process failed."""
    files.remove_file(_failure_file(directory, rank))


def write_failure(directory: Path, rank: int, message: str, exit_code: int, kind: str = "") -> None:
    """Leave the reason why a process ends for the command. On a full disk the exit code has to do."""
    with contextlib.suppress(OSError):
        files.write_json(_failure_file(directory, rank), asdict(Failure(message, exit_code, kind)))


def read_failure(directory: Path, rank: int) -> Failure | None:
    """The reason that a process left; None where it left none. Errors: Damaged."""
    return stored.read_json(_failure_file(directory, rank), Failure)


def _failure_file(directory: Path, rank: int) -> Path:
    return directory / RANKS / f"failed.rank{rank}.json"


def clear_early_end(directory: Path) -> None:
    """Forget that an earlier attempt was ended early."""
    files.remove_file(directory / RANKS / EARLY)


def write_early_end(directory: Path, reason: str) -> None:
    """Leave for the command why the run ends before its last step without a signal or a failure."""
    files.write_text(directory / RANKS / EARLY, reason)


def read_early_end(directory: Path) -> str:
    """Why the run was ended early; empty where it was not. Errors: Damaged."""
    return stored.read_text(directory / RANKS / EARLY) or ""


def verdict(message: str, exit_code: int) -> str:
    """The value of `VERDICT`."""
    return json.dumps([message, exit_code])


def check_verdict() -> bool:
    """Whether the command of the first process found nothing left to train. Errors: RunFailed where it refused to."""
    verdict = os.environ.get(VERDICT)
    if verdict is None:
        return False
    message, exit_code = json.loads(verdict)
    if exit_code:
        raise RunFailed(message, exit_code)
    return True
