"""The command: compose, validate, hand over. Imports neither Paddle nor MLflow."""

# ruff: noqa: E402
from __future__ import annotations

# Built in: nothing of the working directory can take its name.
import _signal
import os
import sys

_on_interrupt = _signal.getsignal(_signal.SIGINT)
if __name__ == "__main__" and _on_interrupt is _signal.default_int_handler:
    # Ctrl-C during the imports below: a traceback through them would tell nothing.
    _signal.signal(_signal.SIGINT, lambda *_: os._exit(130))

_here = os.path.dirname(os.path.dirname(__file__))
if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False) and sys.path[0] != _here:
    # `python -m runner` puts the working directory first on the path: a `yaml.py` there must not be imported.
    del sys.path[0]

import importlib
import signal
from types import FrameType

from . import __version__, processes, terminal
from .cli.shown_errors import message_of, refusal_of
from .config import credentials
from .errors import STOPPED, ConfigError, DiskError, nearest
from .files.disk_errors import OUTPUT, RUN_DIR

#: Verb → the module in `runner.cli.verbs` whose `main(arguments)` does it.
VERBS = (
    "eval", "export", "bench", "predict", "explain", "serve", "data", "models", "lr", "runs", "report", "config", "ui",
    "sync", "migrate", "kernels", "doctor", "completion",
)  # fmt: skip
#: Words of other tools for what needs no verb → what to write.
TRAINING = {
    "train": "Without a command it trains: runner KEY=VALUE …",
    "resume": "The command that began a run continues it, with its folder and checkpoint.resume=auto: "
    "runner KEY=VALUE … hydra.run.dir=RUN checkpoint.resume=auto (a sweep: sweep.resume=true)",
}
#: Those with an option `--output`.
WITH_OUTPUT = ("export", "predict", "explain", "data", "lr", "report")


def main() -> None:
    """Entry of `runner` and `python -m runner`."""
    terminal.protect_streams()
    processes.draw_without_a_screen()
    if sys.argv[1:2] and sys.argv[1] in VERBS:
        # Commands that train handle the signal themselves.
        signal.signal(signal.SIGTERM, _stop)
    try:
        code: int | str | None = command(sys.argv[1:])
    except SystemExit as end:
        # The exit code that argparse and Hydra use after printing.
        code = end.code
    if not code and (error := terminal.lost_output()) and not _trains(sys.argv[1:]):
        print(f"The standard output cannot be written: {error.strerror}.", file=sys.stderr)
        code = DiskError.exit_code
    sys.exit(code)


def _remedy(arguments: list[str]) -> str:
    """What a user can do, besides making room, about a file that the command cannot write."""
    if arguments[:1] and arguments[0] in VERBS:
        return OUTPUT if arguments[0] in WITH_OUTPUT else ""
    return RUN_DIR


class _Terminated(BaseException):
    """SIGTERM came."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _trains(arguments: list[str]) -> bool:
    """Whether the command trains: its result is files, not output."""
    from .cli.train import INFORMING

    flags = {argument.partition("=")[0] for argument in arguments}
    return not arguments or (arguments[0] not in VERBS and not {"-h", "--help", *INFORMING} & flags)


def command(arguments: list[str]) -> int:
    """Run the command and return its exit code. User errors print one message, without a traceback."""
    try:
        processes.require_working_directory()
        for argument in arguments:
            # Before anything is written or composed: sweeps and reports record the command line.
            credentials.refuse(argument)
        match arguments:
            case [verb, *rest] if verb in VERBS:
                return importlib.import_module(f".cli.verbs.{verb}", __package__).main(rest)
            case _ if {"-h", "--help"} & set(arguments):
                from .cli import help

                print(help.text(), end="")
                return 0
            case ["--version"]:
                print(f"runner {__version__}")
                return 0
        if arguments and arguments[0].isidentifier():
            if arguments[0] == "help":
                raise ConfigError("For help: runner --help, or runner COMMAND --help")
            if hint := TRAINING.get(arguments[0]):
                raise ConfigError(f"There is no command '{arguments[0]}'. {hint}")
            from .cli.not_overrides import did_you_mean

            meant = did_you_mean(arguments[0]) or nearest(arguments[0], VERBS)
            raise ConfigError(
                f"Unknown command '{arguments[0]}'.{meant} Valid: {', '.join(VERBS)}. "
                "Without a command it trains: runner KEY=VALUE …"
            )
        from .cli.train import train, train_inline
        from .launch.command import Command

        return train(Command(train_inline), arguments)
    except Exception as error:
        if (refusal := refusal_of(error, _remedy(arguments))) is None:
            raise
        # Put the message below a progress bar.
        print(f"{chr(10) * (refusal.exit_code > 2)}{message_of(refusal)}", file=sys.stderr)
        return refusal.exit_code
    except (KeyboardInterrupt, _Terminated) as stop:
        code = 130 if isinstance(stop, KeyboardInterrupt) else 143
        print(f"\nStopped by {STOPPED[code]}.", file=sys.stderr)
        return code


if __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _on_interrupt)
    main()
