"""A config's ways in and out: from Hydra's composition, to and from a run directory, to flat parameters."""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf, ValueNode
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError

from .. import files, stored
from ..errors import ConfigError, Damaged
from . import GROUPS, Config
from .keys import expand_paths, unknown_key
from .rules import check_monitor, validate

UNSET = re.compile(r"Environment variable '(.*?)' not found")
NAME = re.compile(r"[\w-]+")
#: Keys that stored configs of earlier versions have, with the only value they could have; it is what still happens.
RETIRED = {"compression.prune.axis": 0}
#: Group of keys that stored configs of earlier versions have in another place → where it is.
MOVED = {"data.augment": "augment"}


def from_composition(composed: DictConfig) -> Config:
    """The typed config of Hydra's composition.

    Errors: ConfigError for a key the schema does not have (Hydra accepts `+optimizer.foo=1`), for a mandatory value
    that was not given, and for whatever `rules.validate` refuses.
    """
    try:
        _refuse_unknown_keys(composed, "")
        for key in OmegaConf.missing_keys(composed):
            raise ConfigError(f"{key} has no value. Give it one: {key}=…")
        config = OmegaConf.to_object(composed)
    except InterpolationResolutionError as error:
        raise without_value(error) from error
    assert isinstance(config, Config)
    expand_paths(config)
    validate(config)
    check_monitor(config)
    return config


def without_value(error: InterpolationResolutionError) -> ConfigError:
    """The error for a value `${…}` that cannot be looked up."""
    if variable := UNSET.search(str(error)):
        name = variable[1]
        return ConfigError(
            f"{error.full_key}: the environment variable {name} is not set. Set it (export {name}=…), or give a value "
            f"for where it is not: ${{oc.env:{name},VALUE}}"
        )
    if isinstance(error, InterpolationToMissingValueError):
        return ConfigError(
            f"{error.full_key} takes its value from another key, which has none. Give that one a value (the recipes "
            "experiment=compress/* begin with a trained run: checkpoint.init_from=RUN)."
        )
    return ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}")


def _refuse_unknown_keys(node: DictConfig, path: str) -> None:
    schema = OmegaConf.get_type(node)
    for key in map(str, node):
        child = node._get_node(key)
        if is_dataclass(schema):
            names = [field.name for field in fields(schema)]
            if key not in names:
                override = f"{path}{key}={child}" if isinstance(child, ValueNode) else ""
                raise unknown_key(f"{path}{key}", names, keys_of(node._get_root()), override)
        if isinstance(child, DictConfig) and not child._is_none():
            _refuse_unknown_keys(child, f"{path}{key}.")


def keys_of(composed: Any) -> list[str]:
    """The dotted keys of a composition, without those of Hydra's own."""
    plain = OmegaConf.to_container(composed, resolve=False)
    return [key for key in dict(_leaves(plain, "")) if not key.startswith("hydra.")]


def to_plain(value: Any) -> Any:
    """A config, or a part of it, as dicts, lists, strings, numbers, booleans and None."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def write(config: Config, path: Path) -> None:
    """Write the config as YAML."""
    files.write_text(path, to_yaml(config))


def to_yaml(config: Config) -> str:
    """The config as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)


def read(path: Path, overrides: Iterable[str] = ()) -> Config:
    """The config that `write` wrote, with some `key=value` changed.

    Errors: Damaged for a file that cannot be read, ConfigError for one that does not fit the schema, or an override
    that does not.
    """
    plain = stored.read_yaml(path, dict[str, Any])
    if plain is None:
        raise Damaged(f"{path} is missing.")
    for key, value in RETIRED.items():
        _drop(plain, key, value)
    for key, place in MOVED.items():
        _move(plain, key, place)
    if isinstance(train := plain.get("train"), dict) and train.get("ema"):
        # Averages of earlier versions began with their whole decay.
        train.setdefault("ema_warmup", False)
    config = _fitting(plain, path)
    if overrides := list(overrides):
        for override in overrides:
            _set(plain, override)
        config = _typed(plain, Config, "")
    expand_paths(config)
    validate(config)
    return config


def _fitting(plain: dict[str, Any], path: Path) -> Config:
    """The config of a file. Errors: ConfigError naming it where it does not fit the schema."""
    try:
        config = _typed(plain, Config, "")
        if missing := next((key for key, value in leaves(config).items() if value == MISSING), None):
            raise ConfigError(f"{missing} has no value")
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} does not fit this version's schema: {error!r}") from error
    except ConfigError as error:
        raise ConfigError(f"{path} does not fit this version: {error}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"{path} holds no config.")
    return config


def _drop(plain: dict[str, Any], key: str, value: Any) -> None:
    """Take a key off where it has this value; with another one it is refused like any that the schema does not have."""
    part, name = _place(plain, key)
    if name in part and part[name] == value:
        del part[name]


def _move(plain: dict[str, Any], key: str, place: str) -> None:
    """Put a group where it belongs, unless there is one: then the old one is refused like any unknown key."""
    (old, name), (new, to) = _place(plain, key), _place(plain, place)
    if name in old and to not in new:
        new[to] = old.pop(name)


def _place(plain: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The group that a dotted key is in, empty where there is none, and its name there."""
    *path, name = key.split(".")
    part: Any = plain
    for step in path:
        part = part.get(step) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}, name


class _Text(str):
    """What stands behind the `=` of an override. The type of its key says what it means."""


def _set(plain: dict[str, Any], override: str) -> None:
    """Change one leaf. Errors: ConfigError where it does not exist."""
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"{override} is not an override: write KEY=VALUE, such as data.root=DIR")
    parts, place = key.split("."), plain
    for number, part in enumerate(parts, 1):
        if not isinstance(place, dict) or part not in place:
            valid = list(place) if isinstance(place, dict) else []
            raise unknown_key(".".join(parts[:number]), valid, dict(_leaves(plain, "")), override)
        group, place = place, place[part]
    if isinstance(place, dict):
        raise ConfigError(f"{override}: {key} is a group of keys. Set those: {', '.join(place)}")
    group[parts[-1]] = _Text(value)


def _as_type(text: str, hint: Any) -> Any:
    """What an override's text is to a type: itself where that is text or a name, else as YAML reads it."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if type(None) in options and text in ("", "null", "~"):
        return None
    if str in options or any(isinstance(option, type) and issubclass(option, Enum) for option in options):
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else str(text)
    try:
        # Texts in a list stay texts as well.
        return yaml.load(text, yaml.BaseLoader if hint == list[str] else yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return str(text)


def _typed(plain: Any, hint: Any, path: str) -> Any:
    if isinstance(plain, _Text):
        plain = _as_type(plain, hint)
    if get_origin(hint) in (Union, types.UnionType):
        if plain is None:
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if plain is None and hint is not Any:
        raise ConfigError(f"{path.rstrip('.')} has no value")
    if isinstance(hint, type) and issubclass(hint, Enum):
        if not isinstance(plain, str) or plain not in hint.__members__:
            raise ConfigError(f"{path.rstrip('.')}={plain}: must be one of {', '.join(hint.__members__)}")
        return hint[plain]
    if get_origin(hint) is list and isinstance(plain, list):
        return [_typed(item, get_args(hint)[0], path) for item in plain]
    if isinstance(plain, dict) and (hint is Any or get_origin(hint) is dict):
        keys, values = get_args(hint) or (Any, Any)
        return {_leaf(key, keys, path): _typed(item, values, f"{path}{key}.") for key, item in plain.items()}
    if not is_dataclass(hint):
        return _leaf(plain, hint, path)
    if not isinstance(plain, dict):
        raise ConfigError(f"{path.rstrip('.')}: {plain!r} is not a group of keys")
    schema = _choice(hint, plain, path)
    hints = stored.hints_of(schema)
    for key in plain:
        if key not in hints:
            raise unknown_key(f"{path}{key}", list(hints))
    return schema(**{key: _typed(value, hints[key], f"{path}{key}.") for key, value in plain.items()})


def _leaf(value: Any, hint: Any, path: str) -> Any:
    """A value as its key has it. Errors: ConfigError where it is of another kind."""
    if hint is float and isinstance(value, str):
        # YAML takes 1e-3 for a text.
        with contextlib.suppress(ValueError):
            return float(value)
    try:
        stored.check(value, hint, path.rstrip("."))
    except ValueError as error:
        raise ConfigError(f"{error}: {value!r}") from error
    return value


def _choice(base: Any, plain: dict[str, Any], path: str) -> Any:
    """The dataclass of the choice that `kind` names."""
    if "kind" not in plain:
        return base
    choices = [choice for group in GROUPS.values() for choice in group if issubclass(choice, base)]
    for choice in choices:
        if choice.kind == plain["kind"]:  # type: ignore[attr-defined]
            return choice
    valid = ", ".join(choice.kind for choice in choices)  # type: ignore[attr-defined]
    raise ConfigError(f"{path}kind={plain['kind']!r} is not known to this version. Valid: {valid}")


def flatten(config: Config) -> dict[str, str]:
    """Every leaf of the config as dotted name and text, as MLflow's parameters show it."""
    return {key: str(value) for key, value in leaves(config).items()}


def leaves(config: Config) -> dict[str, Any]:
    """Every leaf of the config as dotted name and plain value."""
    return dict(_leaves(to_plain(config), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    # Patterns and other free text make no names: such a mapping is one leaf.
    if not isinstance(value, dict) or not value or not all(NAME.fullmatch(str(key)) for key in value):
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
