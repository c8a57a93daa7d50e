"""Hydra's part: where the configs are, which schemas check them, and what its errors mean to a user."""

from __future__ import annotations

import functools
import os
import secrets
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from . import job, launch, processes, supervisor, sweep
from .choices import choices, config_dir
from .config import GROUPS, Checkpoint, Config, Train
from .config.rules import refuse_secrets
from .config.store import unknown_key
from .errors import STOPPED, UNWRITABLE, ConfigError, DiskError, RunFailed, UserError, nearest

#: Hydra's flags that print something instead of training.
INFORMING = {"-c", "--cfg", "-i", "--info", "-sc", "--shell-completion", "--version", "--hydra-help"}
#: Overrides that decide where a sweep is.
NAMING = ("name", "sweep.", "hydra.", "hydra/", "experiment")


def register() -> None:
    """Give Hydra the schemas (`/schema/<group>/<choice>`) and the resolvers that the configs use."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for group, schemas in GROUPS.items():
        for schema in schemas:
            store.store(group=f"schema/{group}", name=schema.kind, node=schema)  # type: ignore[attr-defined]
    store.store(group="schema/train", name="default", node=Train)
    store.store(group="schema/checkpoint", name="default", node=Checkpoint)
    OmegaConf.register_new_resolver("short_id", short_id, replace=True)


@functools.cache
def short_id() -> str:
    """Six hexadecimal digits that tell this command's run from others of the same second."""
    return secrets.token_hex(3)


def run(arguments: list[str]) -> int:
    """Compose the config of `arguments` and train it; with `-m`, every job of the sweep. Returns the exit code.

    Errors: UserError as the run ended with it; ConfigError for whatever Hydra or OmegaConf refuse.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra's parser takes no override behind a flag: `runner mode=cls -m train.seed=0,1` would be refused.
    flags = [argument for argument in arguments if argument in ("-m", "--multirun", "hydra.mode=MULTIRUN")]
    rest = [_listed(argument) for argument in arguments if argument not in flags]
    for argument in rest:
        key, _, values = argument.partition("=")
        if key.endswith("tracking.uri"):
            # A sweep writes down what it was started with before any job is looked at.
            for uri in values.split(","):
                refuse_secrets(uri.strip("'\""))
    if launch.is_launched():
        if flags:
            raise ConfigError(
                f"{flags[0]}: the jobs of a sweep start their processes themselves. Leave out "
                "paddle.distributed.launch and add launch.nproc_per_node=N."
            )
        processes.die_with_parent(os.getppid())
        rest += launch.own_folder()
    if not flags or INFORMING & set(rest):
        _hydra([*flags, *rest])
        if job.failures:
            raise job.failures[0]
        return 0
    try:
        directory = plan(rest)
    except Exception as error:
        raise explain(error) from error
    try:
        _hydra([*flags, *rest, f"hydra.sweep.dir='{directory}'"])
    except ConfigError as error:
        if "no key" not in str(error):
            raise
        # Hydra 1.3 composes what all jobs share without what is swept, too.
        hint = "A key that only swept choices have is written with ++, such as ++optimizer.momentum=0.9"
        raise ConfigError(f"{error}\n{hint}") from error
    finally:
        supervisor.MIRROR.drain()
        exit_code = sweep.show(directory, job.refused)
    return exit_code or (job.failures[0].exit_code if job.failures else 0)


def _listed(argument: str) -> str:
    """`launch.devices=0,1` as a list: to Hydra it would be a sweep over two."""
    key, _, value = argument.partition("=")
    return f"{key}=[{value}]" if key == "launch.devices" and value.replace(",", "").isdigit() else argument


def plan(overrides: list[str]) -> Path:
    """The folder of a sweep, made or found again.

    Errors: ConfigError for a sweep that was started before and is not to be resumed, or for what all its jobs share.
    """
    for text in overrides:
        if text.startswith(("-", "hydra.sweep.subdir=")):
            raise ConfigError(
                f"{text}: not with -m. A folder of configs is added with hydra.searchpath=[file://DIR], and the jobs' "
                "folders have names of their own."
            )
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [override for override in parsed if not override.is_sweep_override()]
    # The rest may fit only the choices that are swept.
    naming = [str(one.input_line) for one in fixed if one.key_or_group.startswith(NAMING)]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = hydra.compose("config", naming, return_hydra_config=True)
    directory = Path(str(composed.hydra.sweep.dir))
    if not any(one.key_or_group == "hydra.sweep.dir" for one in fixed):
        directory = directory / sweep.digest(overrides)
    # As Hydra's sweepers write them.
    shared = [f"{one.get_key_element()}={one.get_value_element_as_str()}" for one in fixed]
    sweep.open_(directory, overrides, shared, bool(composed.sweep.resume))
    return directory


def _hydra(arguments: list[str]) -> None:
    """Hand over to Hydra. Errors: as in `run`."""
    sys.argv = ["runner", *arguments]
    composed_at_least_once = False

    @functools.wraps(job.run)
    def watched(composed: DictConfig) -> Any:
        nonlocal composed_at_least_once
        composed_at_least_once = True
        return job.run(composed)

    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(watched)()
    except KeyboardInterrupt as error:
        stops = [failure for failure in job.failures if failure.exit_code in STOPPED]
        raise stops[-1] if stops else RunFailed("Stopped by Ctrl-C.", 130) from error
    except Exception as error:
        if composed_at_least_once and not (isinstance(error, OSError) and error.errno in UNWRITABLE):
            raise
        raise explain(error) from error


def explain(error: Exception) -> UserError:
    """One message that names the key or choice at fault, the valid ones and the nearest of them."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case UserError():
                return cause
            case OSError(errno=number) if number in UNWRITABLE:
                return DiskError.of(cause)
            case MissingConfigException():
                return _unknown_choice(cause)
            case ConfigAttributeError() | ConfigKeyError() if is_dataclass(cause.object_type):
                return unknown_key(str(cause.full_key), [field.name for field in fields(cause.object_type)])
            case ValidationError():
                return ConfigError(f"{cause.full_key}: {_first_line(cause)}")
        last, cause = cause, cause.__cause__
    if isinstance(last, AssertionError):
        return ConfigError(
            f"{_first_line(error)}\nThe key is below one that is null: choose a value for that one first."
        )
    known = isinstance(error, (HydraException, OmegaConfBaseException))
    return ConfigError(str(error) if known else f"{type(error).__name__}: {error}")


def _unknown_choice(error: MissingConfigException) -> ConfigError:
    if not error.missing_cfg_file or error.options is None:
        return ConfigError(str(error))
    group, _, choice = error.missing_cfg_file.rpartition("/")
    if not group:
        return ConfigError(str(error).split("\nConfig search path")[0])
    top, _, folder = group.partition("/")
    if folder:
        group, choice = top, f"{folder}/{choice}"
    valid = choices().get(group) or sorted(error.options)
    return ConfigError(f"There is no {group}={choice}.{nearest(choice, valid)}\nValid: {', '.join(valid)}")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
