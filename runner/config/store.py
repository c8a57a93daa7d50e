"""Conversions of a config: from Hydra's composition, to and from a run directory, to flat parameters."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf, ValueNode
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError

from .. import files, stored
from ..errors import ConfigError, Damaged
from . import Config, Train, suited_to_labels
from .keys import expand_paths, unknown_key
from .rules import validate_changed, validate_new
from .typed import Text, typed

RAISED = re.compile(r"ConfigError raised while resolving interpolation: (.*)")
UNSET = re.compile(r"Environment variable '(.*?)' not found")
NAME = re.compile(r"[\w-]+")
#: The beginning of a top-level key in a file that `write` wrote: only such keys are at the start of a line.
KEY, OTHER = re.compile(r"^(\w+):", re.MULTILINE), re.compile(r"^(?!\w+:|[ \n]|\Z)", re.MULTILINE)
#: Removed keys in stored configs of earlier versions, with the only value they could have; the behaviour is unchanged.
RETIRED = {
    "compression.prune.axis": 0,
    "compression.quantize.activation_scheme": "moving_average_abs_max",
    "mode.more_teachers": [],
    "mode.teacher_weights": [],
}
#: Moved groups of stored configs of earlier versions → their place now.
MOVED = {"data.augment": "augment"}


def from_composition(composed: DictConfig) -> Config:
    """The typed config of Hydra's composition.

    Errors: ConfigError for a key the schema does not have (Hydra accepts `+optimizer.foo=1`), for a mandatory value
    that is missing, and for whatever `rules.validate_new` refuses.
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
    validate_new(config)
    return config


def train_of(composed: Any) -> Train:
    """`Config.train` of Hydra's composition, of which other parts may have no values yet."""
    train: Any = OmegaConf.to_object(composed.train)
    return suited_to_labels(train, composed.data.labels)


def without_value(error: InterpolationResolutionError) -> ConfigError:
    """The error for a value `${…}` that cannot be looked up."""
    if own := RAISED.search(str(error)):
        return ConfigError(own[1])
    if variable := UNSET.search(str(error)):
        name = variable[1]
        return ConfigError(
            f"{error.full_key}: the environment variable {name} is not set. Set it (export {name}=…), or give a "
            f"default value: ${{oc.env:{name},VALUE}}"
        )
    if isinstance(error, InterpolationToMissingValueError):
        return ConfigError(
            f"{error.full_key} takes its value from another key, which has none. Set that one (the recipes "
            "experiment=compress/* start from a trained run: checkpoint.init_from=RUN)."
        )
    reason = str(error).partition("\n")[0]
    return ConfigError(f"{error.full_key}: {reason}")


def _refuse_unknown_keys(node: DictConfig, path: str) -> None:
    schema = OmegaConf.get_type(node)
    for key in node:
        # Not of its text: a mapping may have numbers as keys.
        child, key = node._get_node(key), str(key)
        if is_dataclass(schema):
            names = [field.name for field in fields(schema)]
            if key not in names:
                override = f"{path}{key}={child}" if isinstance(child, ValueNode) else ""
                raise unknown_key(f"{path}{key}", names, keys_of(node._get_root()), override)
        if isinstance(child, DictConfig) and not child._is_none():
            _refuse_unknown_keys(child, f"{path}{key}.")


def keys_of(composed: Any) -> list[str]:
    """The dotted keys of a composition, without Hydra's own."""
    return [key for key in written_leaves(composed) if not key.startswith("hydra.")]


def written_leaves(composed: Any) -> dict[str, Any]:
    """Every leaf of a composition as dotted name and value, without looking up `${…}`."""
    return dict(_leaves(OmegaConf.to_container(composed, resolve=False), ""))


def keys_in(plain: Any) -> set[str]:
    """The dotted keys of a config as plain values, of any version."""
    return set(dict(_leaves(plain, "")))


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
    """The config that `write` wrote, with overrides `key=value` applied.

    Errors: Damaged for a file that cannot be read, ConfigError for a file or an override that does not fit the schema.
    """
    plain = stored.read_yaml(path, dict[str, Any])
    if plain is None:
        raise Damaged(f"{path} is missing.")
    _modernise(plain)
    config = earlier = _fitting(plain, path)
    for override in (overrides := list(overrides)):
        _set(plain, override)
    if overrides:
        config = typed(plain, Config, "")
    expand_paths(config)
    validate_changed(config, earlier)
    return config


def _fitting(plain: dict[str, Any], path: Path) -> Config:
    """The config of a file. Errors: ConfigError naming it if it does not fit the schema."""
    try:
        config = typed(plain, Config, "")
        if missing := next((key for key, value in leaves(config).items() if value == MISSING), None):
            raise ConfigError(f"{missing} has no value")
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} does not fit this version's schema: {error!r}") from error
    except ConfigError as error:
        raise ConfigError(f"{path} does not fit this version: {error}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"{path} does not contain a config.")
    return config


def read_groups(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Some groups, by name, of a config that `write` wrote, for lists of many runs; they must not be modified.

    Other groups are not read, and rules between groups are not checked. Errors: as in `read`.
    """
    text = stored.read_text(path) or ""
    begins = [] if OTHER.search(text) else list(KEY.finditer(text))
    places = [*(begin.start() for begin in begins), len(text)]
    parts = {begin[1]: text[place:end] for begin, place, end in zip(begins, places, places[1:], strict=False)}
    try:
        return {name: _group(name, parts[name]) for name in names}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError, ConfigError):
        config = read(path)
        return {name: getattr(config, name) for name in names}


@functools.lru_cache(maxsize=1024)
def _group(name: str, text: str) -> Any:
    """A group parsed from its text; cached, since runs of a sweep have most groups in common."""
    plain = stored.parse_yaml(text)
    _modernise(plain)
    return typed(plain[name], stored.hints_of(Config)[name], f"{name}.")


def _modernise(plain: dict[str, Any]) -> None:
    """Bring a config of an earlier version to this one's form."""
    for key, value in RETIRED.items():
        _drop(plain, key, value)
    for key, place in MOVED.items():
        _move(plain, key, place)
    prune, name = _place(plain, "compression.prune.macs_reduction")
    if (part := prune.pop(name, None)) is not None:
        prune |= {"ratio": part, "budget": "macs", "allocation": "sensitivity"}
    if isinstance(train := plain.get("train"), dict) and train.get("ema"):
        # In earlier versions averages started with their full decay.
        train.setdefault("ema_warmup", False)


def _drop(plain: dict[str, Any], key: str, value: Any) -> None:
    """Remove a key with this value; with another one it is refused like any unknown key."""
    part, name = _place(plain, key)
    if name in part and part[name] == value:
        del part[name]


def _move(plain: dict[str, Any], key: str, place: str) -> None:
    """Move a group to its place, unless that exists: then the old one is refused like any unknown key."""
    (old, name), (new, to) = _place(plain, key), _place(plain, place)
    if name in old and to not in new:
        new[to] = old.pop(name)


def _place(plain: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The group that contains a dotted key, empty if there is none, and its name there."""
    *path, name = key.split(".")
    part: Any = plain
    for step in path:
        part = part.get(step) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}, name


def _set(plain: dict[str, Any], override: str) -> None:
    """Change one leaf. Errors: ConfigError if it does not exist."""
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
    group[parts[-1]] = Text(value)


def flatten(config: Config) -> dict[str, str]:
    """Every leaf of the config as dotted name and text, for MLflow's parameters."""
    return {key: str(value) for key, value in leaves(config).items()}


def leaves(config: Config) -> dict[str, Any]:
    """Every leaf of the config as dotted name and plain value."""
    return dict(_leaves(to_plain(config), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    # Patterns and other free text are not key names: such a mapping is one leaf.
    if not isinstance(value, dict) or not value or not all(NAME.fullmatch(str(key)) for key in value):
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
