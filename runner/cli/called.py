"""The child process of `call`: runs one command and writes its outcome to a file.

`ANSWER PARENT train|sweep|VERB ARGUMENT…`; `call` starts it. Imports neither Paddle nor MLflow.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from .. import files, processes, terminal
from ..config import credentials
from ..errors import RunFailed, UserError, kind_of
from ..launch.command import Command
from ..runs.protocol import Answer, Failure
from .shown_errors import message_of, refusal_of
from .train import train, train_inline


def main() -> None:
    """The entry point."""
    place, parent, kind, *arguments = sys.argv[1:]
    # If a notebook's kernel is killed, its training ends too; the run can be resumed.
    processes.die_with_parent(int(parent), signal.SIGTERM)
    terminal.protect_streams()
    processes.draw_without_a_screen()
    command = Command(train_inline)
    failure = _failure(command, kind, arguments)
    directory = str(command.directory.absolute()) if command.directory else None
    files.write_json(Path(place), asdict(Answer(directory, failure)))
    sys.exit(failure.exit_code if failure else 0)


def _failure(command: Command, kind: str, arguments: list[str]) -> Failure | None:
    """Run the command; returns why it failed."""
    try:
        processes.require_working_directory()
        for argument in arguments:
            credentials.refuse(argument)
        _do(command, kind, arguments)
    except KeyboardInterrupt:
        return Failure("Stopped by Ctrl-C.", 130, RunFailed.__name__)
    except SystemExit as end:
        return Failure(f"{kind} ended with {end.code}.", end.code if isinstance(end.code, int) else 1)
    except Exception as error:
        if refusal := refusal_of(error):
            return Failure(message_of(refusal), refusal.exit_code, kind_of(refusal))
        # A defect: a report needs the traceback.
        return Failure("".join(traceback.format_exception(error)).strip(), UserError.exit_code)
    return None


def _do(command: Command, kind: str, arguments: list[str]) -> None:
    match kind:
        case "train":
            train(command, arguments)
        case "sweep":
            # The exit code is that of the first failed job, whose reason is in the sweep's table.
            train(command, ["-m", *arguments])
        case verb:
            importlib.import_module(f"runner.cli.verbs.{verb}").main(arguments)


if __name__ == "__main__":
    main()
