"""`runner [GROUP=CHOICE …] [KEY=VALUE …]`: trains one run, or with -m a sweep."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hydra._internal.utils import get_args_parser

from .. import processes
from ..errors import ConfigError
from ..launch import nodes
from ..launch.command import Command
from . import compose, not_overrides, sweep
from .config_dir import completed
from .overrides import readable

#: Flags of a sweep.
MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")
#: Hydra's flags that print something instead of training.
INFORMING = {"-c", "--cfg", "-i", "--info", "-sc", "--shell-completion", "--version", "--hydra-help"}
#: Those of completion.
COMPLETING = {"-sc", "--shell-completion"}
#: Those followed by a folder or a file.
OF_FOLDERS = {"-cd", "--config-dir", "-cp", "--config-path"}
#: A flag of Hydra that unpickles a file, which may run any code.
RERUN = "--experimental-rerun"


def train(command: Command, arguments: list[str]) -> int:
    """Compose the config of `arguments` and train it; with `-m`, every job of the sweep. Returns the exit code.

    Errors: the UserError that the run ended with; ConfigError for whatever Hydra or OmegaConf refuse.
    """
    if COMPLETING & set(arguments):
        line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
        if (words := completed(line)) is not None:
            print(" ".join(words))
            return 0
    # Hydra takes abbreviations too.
    if any(len(flag) > 2 and RERUN.startswith(flag.partition("=")[0]) for flag in arguments if flag.startswith("--e")):
        raise ConfigError(
            f"{RERUN} would run code in its file. Repeat the run's overrides: they are in its overrides.yaml."
        )
    compose.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    flags = [argument for argument in arguments if argument in MULTIRUN]
    overrides = _overrides_first([argument for argument in arguments if argument not in flags], bool(flags))
    if nodes.is_launched():
        if flags:
            raise ConfigError(
                f"{flags[0]}: the jobs of a sweep start their own processes. "
                "Instead of paddle.distributed.launch use launch.nproc_per_node=N."
            )
        processes.die_with_parent(os.getppid())
        if os.environ["PADDLE_TRAINER_ID"] == "0":
            print(nodes.launched(), file=sys.stderr)
        overrides += nodes.own_folder()
    if flags and not INFORMING & set(overrides):
        return sweep.run(command, flags, overrides)
    compose.run_hydra(command, [*flags, *overrides])
    if command.failures:
        raise command.failures[0]
    return 0


def train_inline(directory: Path) -> int:
    """Train a prepared run directory in this process; returns the exit code."""
    from ..worker.__main__ import run_and_report

    return run_and_report(directory)


def _overrides_first(arguments: list[str], sweeps: bool) -> list[str]:
    """The arguments in Hydra's order: it refuses an override after a flag (`mode=cls --cfg job name=x`)."""
    options, unknown = get_args_parser().parse_known_args(arguments)
    if wrong := next((word for word in unknown if word.startswith("-")), None):
        raise ConfigError(f"{wrong}: unknown option. Keys are set without dashes: KEY=VALUE, as in train.seed=1")
    not_overrides.refuse([word for word in arguments if word in (*options.overrides, *unknown)])
    overrides: list[str] = []
    flags: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_flag = argument.startswith("-") or not ("=" in argument or argument.startswith("~")) or before in OF_FOLDERS
        (flags if is_flag else overrides).append(argument)
    return [*(readable(argument, sweeps) for argument in overrides), *flags]
