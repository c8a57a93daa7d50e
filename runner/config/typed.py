"""Conversion of plain values, from a file or an override, to the dataclasses of the schema."""

from __future__ import annotations

import contextlib
import types
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin

import yaml

from .. import stored
from ..errors import ConfigError
from . import GROUPS
from .keys import unknown_key


class Text(str):
    """The text after the `=` of an override, whose meaning depends on the type of its key."""


def _as_type(text: str, hint: Any) -> Any:
    """An override's text as a type: unchanged for text and names, else as YAML reads it."""
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


def typed(plain: Any, hint: Any, path: str) -> Any:
    """A plain value as a type; a mapping with `kind` becomes that choice of a group.

    `path` is the prefix of its keys, with a trailing dot. Errors: ConfigError.
    """
    if isinstance(plain, Text):
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
        return [typed(item, get_args(hint)[0], path) for item in plain]
    if isinstance(plain, dict) and (hint is Any or get_origin(hint) is dict):
        keys, values = get_args(hint) or (Any, Any)
        return {_leaf(key, keys, path): typed(item, values, f"{path}{key}.") for key, item in plain.items()}
    if not is_dataclass(hint):
        return _leaf(plain, hint, path)
    if not isinstance(plain, dict):
        raise ConfigError(f"{path.rstrip('.')}: {plain!r} is not a group of keys")
    schema = _choice(hint, plain, path)
    hints = stored.hints_of(schema)
    for key in plain:
        if key not in hints:
            raise unknown_key(f"{path}{key}", list(hints))
    return schema(**{key: typed(value, hints[key], f"{path}{key}.") for key, value in plain.items()})


def _leaf(value: Any, hint: Any, path: str) -> Any:
    """A value as the type of its key. Errors: ConfigError for another type."""
    if hint is float and isinstance(value, str):
        # YAML reads 1e-3 as text.
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
