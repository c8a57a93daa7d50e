"""Hydra's part: where the configs are, which schemas check them, and what its errors mean to a user."""

from __future__ import annotations

import functools
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from .choices import choices, config_dir
from .config import GROUPS, Checkpoint, Config, Train
from .config.store import unknown_key
from .errors import STOPPED, ConfigError, RunFailed, UserError, nearest


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


def run(arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Compose the config of `arguments` and call `job` with it, once or, with `-m`, for every job of the sweep.

    Errors: UserError as `job` raises it (of a sweep the first, after all jobs were called); ConfigError for whatever
    Hydra or OmegaConf refuse.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra's parser takes no override behind a flag: `runner mode=cls -m train.seed=0,1` would be refused.
    sweep = [argument for argument in arguments if argument in ("-m", "--multirun")]
    sys.argv = ["runner", *sweep, *(argument for argument in arguments if argument not in sweep)]
    composed_at_least_once = False
    failures: list[UserError] = []

    @functools.wraps(job)
    def guarded(composed: DictConfig) -> Any:
        nonlocal composed_at_least_once
        composed_at_least_once = True
        try:
            return job(composed)
        except UserError as failure:
            # Hydra would print a line of its own for an exception and end a sweep.
            failures.append(failure)
            if failure.exit_code in STOPPED:
                # Not an Exception, or the launcher would start the next job.
                raise KeyboardInterrupt from failure

    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(guarded)()
    except KeyboardInterrupt as error:
        raise failures[-1] if failures else RunFailed("Stopped by Ctrl-C.", 130) from error
    except Exception as error:
        if composed_at_least_once:
            raise
        raise explain(error) from error
    if failures:
        raise failures[0]


def explain(error: Exception) -> ConfigError:
    """One message that names the key or choice at fault, the valid ones and the nearest of them."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ConfigError():
                return cause
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
