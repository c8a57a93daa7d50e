"""One process of a run: build, fit, finish. `python -m runner.worker RUN PARENT ATTEMPT`."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import traceback
from pathlib import Path

from .. import files, processes, terminal
from ..errors import DiskError, ForeignPath, OutOfMemory, ProcessLost, UserError, kind_of
from ..files.disk_errors import run_disk_error
from ..parallel import PeerLost
from ..runs import protocol
from .stop_signal import Interrupted, StopSignal
from .training_run import train

log = logging.getLogger("runner")


def main() -> None:
    """The process's entry point: train the run of a directory and exit with the documented code."""
    arguments = protocol.Arguments.parse(sys.argv[1:])
    processes.die_with_parent(arguments.parent)
    terminal.protect_streams()
    # A job on another machine has that machine's environment.
    processes.draw_without_a_screen()
    # Ray starts its processes with SIGINT blocked, and what they start inherits that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    # The command receives Ctrl-C too, and reports it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The command asks for the stack of every thread before it ends a stalled process.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    processes.exit_fast(run_and_report(arguments.directory, arguments.attempt))


def run_and_report(directory: Path, attempt: int = 0) -> int:
    """Train, and turn every error into an exit code and a message that the parent shows.

    `attempt` is above 0 when the run restarts by itself after it lost a process.
    """
    rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    try:
        _log_to(files.refuse_irregular(protocol.log_of(directory, rank)), rank)
    except ForeignPath as error:
        return _failed(directory, rank, str(error), error.exit_code)
    with StopSignal() as stop:
        try:
            return train(directory, stop, attempt)
        except Interrupted:
            return 128 + stop.received
        except PeerLost as error:
            log.info("%s", error)
            # A signal in one process breaks the connection of another that waits for it.
            return 128 + stop.received if stop.received else ProcessLost.exit_code
        except UserError as error:
            log.info("%s", "".join(traceback.format_exception(error)))
            return _failed(directory, rank, str(error), error.exit_code, kind_of(error))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # Signals arrive as `Interrupted`: SystemExit and KeyboardInterrupt can only come from the user's code.
            log.info("%s", "".join(traceback.format_exception(error)))
            if isinstance(error, MemoryError):
                return _failed(directory, rank, str(OutOfMemory.of(error)), OutOfMemory.exit_code, OutOfMemory.__name__)
            if isinstance(error, OSError) and DiskError.is_of_a_write(error, directory):
                return _failed(
                    directory, rank, str(run_disk_error(error, directory)), DiskError.exit_code, DiskError.__name__
                )
            if stop.received:
                # Failures caused by a signal to the whole process group are not defects.
                return 128 + stop.received
            reason = f"{type(error).__name__}: {error}".strip().rstrip(".")
            return _failed(directory, rank, f"{reason}. Where: {protocol.log_of(directory, rank)}", 1)


def _log_to(path: Path, rank: int) -> None:
    """Log to a file; the first process shows warnings on the terminal as well."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", filename=path, encoding="utf-8", force=True
    )
    logging.captureWarnings(True)
    log.handlers[:] = []
    if not rank:
        shown = logging.StreamHandler(sys.stdout)
        shown.setLevel(logging.WARNING)
        log.addHandler(shown)


def _failed(directory: Path, rank: int, message: str, exit_code: int, kind: str = "") -> int:
    protocol.write_failure(directory, rank, message, exit_code, kind)
    return exit_code


if __name__ == "__main__":
    main()
