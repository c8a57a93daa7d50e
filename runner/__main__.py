"""The command: compose, validate, hand over. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main() -> None:
    """Entry of `runner` and `python -m runner`."""
    sys.exit(command(sys.argv[1:]))


def command(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit code. What a user can mend is one message without a traceback."""
    try:
        match arguments:
            case _ if {"-h", "--help"} & set(arguments) and arguments[0] != "ui":
                from . import help

                print(help.text(), end="")
            case ["completion", *_]:
                from . import completion

                print(completion.SCRIPT, end="")
            case ["ui", *rest]:
                from . import ui

                return ui.serve(rest)
            case _:
                from . import compose

                compose.run(arguments, job)
    except UserError as error:
        print(f"\n{error}" if error.exit_code > 2 else str(error), file=sys.stderr)
        return error.exit_code
    return 0


def job(composed: DictConfig) -> Any:
    """Train one composed config; returns the monitored metric, which a sweeper may optimise."""
    from hydra.core.hydra_config import HydraConfig

    from . import summary, supervisor
    from .config import store

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    try:
        config = store.from_composition(composed)
    except UserError:
        # Hydra made the folder before anybody looked at the config.
        with contextlib.suppress(OSError):
            directory.rmdir()
            directory.parent.rmdir()
        raise
    result = supervisor.run(config, directory, list(hydra.overrides.task))
    summary.show(config, directory, result)
    return result["best"] if result["best"] is not None else result["final"]["top1"]


if __name__ == "__main__":
    main()
