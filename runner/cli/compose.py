"""Composes configs with Hydra, registers their schemas and rewords its errors for users."""

from __future__ import annotations

import contextlib
import errno
import functools
import pickle
import re
import secrets
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationResolutionError,
    KeyValidationError,
    OmegaConfBaseException,
    ValidationError,
)

from .. import terminal
from ..config import ARCHITECTURES, GROUPS, Callback, Checkpoint, Config, CustomMetric, Optuna, Train
from ..config import store as config_store
from ..config.keys import below_null, null_group, renamed, unknown_key
from ..config.store import keys_of, without_value
from ..errors import STOPPED, UNWRITABLE, ConfigError, RunFailed, UserError, install_extra, nearest
from ..files.disk_errors import disk_error
from ..launch.command import Command
from ..runs import sweep
from . import engines, job, networks, not_overrides
from .config_dir import choices, config_dir

#: Hydra's error for `mimic=[kd,dist]`.
TWO_LOSSES = re.compile(r"schema/(mimic|features)/(\w+)'.*is not a subclass of", re.DOTALL)

#: Hydra's error for `compression=lsq compression.prune={ratio:0.4}`.
KEYS_OF_NULL = re.compile(r"'NoneType' object has no attribute 'get'\s+full_key: (\S+)")

#: Where OmegaConf's messages name the key, also of errors that are not its own.
FULL_KEY = re.compile(r"^\s*full_key: (\S+)", re.MULTILINE)
#: A name in the braces of a mapping in quotes, which Hydra does not read.
QUOTED_NAME = re.compile(r"""([{,]\s*)(["'])([^"']*)\2(?=\s*:)""")


def register() -> None:
    """Give Hydra the schemas (`/schema/<group>/<choice>`) and the resolvers that the configs use."""
    _register_schemas()
    networks.register()


@functools.cache
def _register_schemas() -> None:
    """Once per process: it takes a third of the time of composing a config."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for group, schemas in GROUPS.items():
        for schema in schemas:
            store.store(group=f"schema/{group}", name=schema.kind, node=schema)  # type: ignore[attr-defined]
    store.store(group="schema/train", name="default", node=Train)
    store.store(group="schema/checkpoint", name="default", node=Checkpoint)
    store.store(group="schema/sweep", name="optuna", node=Optuna)
    for name in ARCHITECTURES:
        choice = {"defaults": ["/schema/model/vision@_here_", "_self_"], "architecture": name}
        store.store(group="model", name=name, node=choice)
    OmegaConf.register_new_resolver("short_id", short_id, replace=True)
    OmegaConf.register_new_resolver("required", _required, replace=True)
    # Hydra 1.3 composes everything twice, once for hydra.mode alone, which nothing but the command line sets here.
    setattr(Hydra, "get_mode", _mode)  # noqa: B010
    setattr(ConfigLoaderImpl, "load_sweep_config", _loaded_once(ConfigLoaderImpl.load_sweep_config))  # noqa: B010
    # Hydra 1.3 merges `KEY={}` with what the mapping has: nothing would change.
    apply = _clearing(ConfigLoaderImpl._apply_overrides_to_config)
    setattr(ConfigLoaderImpl, "_apply_overrides_to_config", staticmethod(apply))  # noqa: B010


def _mode(_hydra: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    return RunMode.MULTIRUN if "hydra.mode=MULTIRUN" in overrides else None


def _loaded_once(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Compose each job of a sweep once: Hydra's sweeper tries all of them, then its launcher composes them again.

    Configs are cached as a few kilobytes each, which load in a hundredth of the time.
    """
    # Not in the loader, which launchers pickle for the processes of every job.
    kept: WeakKeyDictionary[ConfigLoaderImpl, dict[tuple[str, ...], bytes]] = WeakKeyDictionary()

    def load_sweep_config(
        loader: ConfigLoaderImpl, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        key = (*master_config.hydra.overrides.hydra, *sweep_overrides)
        own = kept.setdefault(loader, {})
        if key not in own:
            config = load(loader, master_config, sweep_overrides)
            own[key] = zlib.compress(pickle.dumps(config), 1)
            return config
        config = pickle.loads(zlib.decompress(own.pop(key)))
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    return load_sweep_config


def _clearing(apply: Callable[[list[Override], DictConfig], None]) -> Callable[[list[Override], DictConfig], None]:
    """Have `KEY={}` remove all that a mapping has."""

    def apply_overrides(overrides: list[Override], composed: DictConfig) -> None:
        for override in overrides:
            if not override.is_delete() and not override.package and override.value() == {}:
                with contextlib.suppress(OmegaConfBaseException):
                    node = OmegaConf.select(composed, override.key_or_group)
                    if isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict:
                        with open_dict(node):
                            for name in [*node]:
                                del node[name]
            apply([override], composed)

    return apply_overrides


@functools.cache
def short_id() -> str:
    """Six hexadecimal digits that distinguish this command's run from others of the same second."""
    return secrets.token_hex(3)


def config_of(overrides: list[str]) -> Config:
    """The config that overrides compose, checked as before a run. Errors: ConfigError."""
    register()
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            return config_store.from_composition(hydra.compose("config", overrides))
    except Exception as error:
        raise explain(error, overrides) from error


def run_hydra(command: Command, arguments: list[str], swept: Path | None = None) -> None:
    """Have Hydra compose, and start the run or, in the folder `swept`, the jobs of a sweep.

    Errors: ConfigError for whatever Hydra or OmegaConf refuse; RunFailed if a signal stopped it or a Hydra launcher or
    sweeper failed. Failures of a run are in `command.failures`.
    """
    sys.argv = ["runner", *arguments]
    composed_at_least_once = False

    @functools.wraps(job.run)
    def watched(composed: DictConfig) -> Any:
        nonlocal composed_at_least_once
        composed_at_least_once = True
        return job.run(command, composed)

    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(watched)()
    except KeyboardInterrupt as error:
        stops = [failure for failure in command.failures if failure.exit_code in STOPPED]
        raise stops[-1] if stops else RunFailed("Stopped by Ctrl-C.", 130) from error
    except job.Refused as refused:
        raise explain(refused.error, arguments) from refused
    except Exception as error:
        if user_error_of := engines.user_error_of(error):
            raise user_error_of from error
        begun = composed_at_least_once or (swept and sweep.jobs(swept))
        if begun and not (isinstance(error, OSError) and error.errno in UNWRITABLE):
            raise
        raise explain(error, arguments, swept) from error


def explain(error: Exception, overrides: Sequence[str] = (), folder: Path | None = None) -> UserError:
    """An error that names the wrong key or choice, the valid ones and the nearest of them.

    `overrides` are what it was composed from, `folder` is where Hydra wrote meanwhile.
    """
    cause: BaseException | None = error
    if not isinstance(error, UserError) and (named := next(filter(None, map(renamed, overrides)), None)):
        return named
    while cause is not None:
        if explained := _explained(cause, overrides, folder):
            return explained
        last, cause = cause, cause.__cause__
    if two := TWO_LOSSES.search(str(error)):
        group, choice = two.groups()
        return ConfigError(
            f"{group} takes one choice. Add another under its own name: +{group}@also.{group}.{choice}={choice}"
        )
    if null := KEYS_OF_NULL.search(str(error)):
        return null_group(null[1])
    if isinstance(last, AssertionError) and (null_key := below_null(overrides)):
        return null_group(null_key)
    is_of_hydra = isinstance(error, (HydraException, OmegaConfBaseException))
    return ConfigError(str(error) if is_of_hydra else f"{type(error).__name__}: {error}")


def _explained(error: BaseException, overrides: Sequence[str], folder: Path | None) -> UserError | None:
    """What a user is told of one error of a chain; None if it says nothing by itself."""
    match error:
        case UserError():
            return error
        case OverrideParseException():
            return _unreadable(error, overrides)
        case OSError(errno=errno.ENAMETOOLONG):
            return ConfigError(str(disk_error(error)))
        case OSError() if error.filename or error.errno in UNWRITABLE:
            # Hydra makes the run's folder.
            return disk_error(error, folder)
        case MissingConfigException():
            return _unknown_choice(error)
        case ConfigAttributeError() | ConfigKeyError() if is_dataclass(error.object_type):
            return _unknown_key(error, overrides)
        case InterpolationResolutionError():
            return without_value(error)
        case ValidationError():
            return _misfit(error, overrides)
        case OverflowError() if place := FULL_KEY.search(str(error)):
            return ConfigError(f"{place[1]}: the number is too large.")
        case KeyValidationError(full_key=str(key)):
            group, _, name = key.rpartition(".")
            return ConfigError(f"{group}: its keys are texts, and {name} is not. Write +{key}=VALUE")
        case ConfigTypeError(full_key=str(key)) if "does not support deletion" in str(error):
            return ConfigError(f"~{key}: every config has this key, which cannot be removed. Give it a value: {key}=…")
        case ConfigTypeError(full_key=str(key)):
            return ConfigError(f"{key}: a list is written {key}=[a,b], a mapping '{key}={{a:1}}', and it is not both.")
    return None


def _required(key: str, kind: str) -> NoReturn:
    """What a recipe has for a key that its user must set; Hydra keeps a default where a recipe has `???`."""
    raise ConfigError(f"{key} has no value. Give it one: {key}={kind}")


def _unknown_key(error: ConfigAttributeError | ConfigKeyError, overrides: Sequence[str]) -> ConfigError:
    key, valid = str(error.full_key), [field.name for field in fields(error.object_type)]  # type: ignore[arg-type]
    of_key = re.compile(rf"[+~]*{re.escape(key)}[.=]")
    override = next((text for text in overrides if of_key.match(text)), "")
    all_keys = keys_of(error.parent_node._get_root()) if error.parent_node is not None else []
    return unknown_key(key, valid, all_keys, override)


def _misfit(error: ValidationError, overrides: Sequence[str]) -> ConfigError:
    """The error for a value of the wrong type; shows how to write lists and mappings."""
    below = f"{error.full_key}."
    if inner := next((text for text in overrides if text.lstrip("+~").startswith(below)), ""):
        name = re.split("[.=]", inner.lstrip("+~").removeprefix(below))[0]
        return ConfigError(f"{error.full_key} is a single value and has no key '{name}'. Write {error.full_key}=VALUE")
    message = f"{error.full_key}: {_first_line(error)}"
    if Callback.__name__ in message:
        message += "\nCallbacks are a list: 'train.callbacks=[{target:package.module:callable}]'"
    if CustomMetric.__name__ in message:
        key = f"{{{error.key}:{{target:package.module:callable,goal:max}}}}"
        message += f"\nA custom metric is one mapping: '+train.metrics={key}'"
    return ConfigError(message)


def _unreadable(error: OverrideParseException, overrides: Sequence[str]) -> ConfigError:
    """The error for an override that Hydra cannot parse; shows how to quote its value as text."""
    key, equals, value = error.override.partition("=")
    if not equals:
        return not_overrides.error_of(error.override, overrides)
    message = f"{error.override} cannot be parsed as an override: {_first_line(error)}\n"
    if (unquoted := QUOTED_NAME.sub(r"\1\3", value)) != value:
        return ConfigError(f"{message}Names in braces have no quotes: {terminal.words([f'{key}={unquoted}'])}")
    message += f"If the value is text, quote it for Hydra and for the shell: {terminal.pasted(key, value)}"
    if "," in value:
        several = ",".join(terminal.quoted(one.strip()) for one in value.split(","))
        message += f"\nIf it is several values of a sweep: {terminal.words([f'{key}={several}'])}"
    return ConfigError(message)


def _unknown_choice(error: MissingConfigException) -> ConfigError:
    if extra := engines.EXTRAS.get(error.missing_cfg_file or ""):
        override = "=".join(str(error.missing_cfg_file).rsplit("/", 1))
        return ConfigError(f"{override} needs a plugin that is not installed: {install_extra(extra)}")
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    # Of one of several choices (`tracking=[mlflow,x]`) Hydra does not say which there are.
    if not error.missing_cfg_file or (error.options is None and group not in choices()):
        return ConfigError(str(error))
    if not group:
        return ConfigError(str(error).split("\nConfig search path")[0])
    top, _, folder = group.partition("/")
    if folder and top != "hydra" and group not in choices():
        group, choice = top, f"{folder}/{choice}"
    valid = choices().get(group) or sorted(error.options or [])
    if old := renamed(f"{group}={choice}"):
        return old
    if group == "model":
        return ConfigError(f"There is no {group}={choice}.{networks.suggestion(choice, valid)}")
    return ConfigError(f"There is no {group}={choice}.{nearest(choice, valid)}\nValid: {', '.join(valid)}")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
