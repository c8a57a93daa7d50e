"""Python values as overrides, quoted so that they arrive unchanged."""

from __future__ import annotations

import contextlib
import numbers
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, TypeGuard, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from .. import terminal
from ..config import keys
from ..config.rules.fields import IN_MAIN
from ..errors import ConfigError


def assignments(values: Mapping[str, object], sweeps: bool = False) -> Iterator[str]:
    """`key=value` in Hydra's grammar for each; `train={"epochs": 3}` as `train.epochs=3`.

    With `sweeps` a list is several values, except for a key that takes a list. Errors: ConfigError for what a config
    cannot hold.
    """
    for key, value in values.items():
        value = _plain(value)
        types = keys.types_of(key.lstrip("+"))
        if isinstance(value, Mapping) and types and all(map(is_dataclass, types)):
            yield from assignments({f"{key}.{name}": one for name, one in value.items()}, sweeps)
        elif sweeps and _is_sequence(value) and not any(get_origin(one) is list for one in types):
            if not value:
                raise ConfigError(f"{key}=[]: there is nothing to sweep over. Give some values.")
            yield f"{key}={','.join(literal(one, key) for one in value)}"
        else:
            yield f"{key}={literal(value, key)}"


def _plain(value: Any) -> Any:
    """The value of an array or scalar of NumPy, or of what is like one, in Python's types; others as they are."""
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether something is several values: a list, a tuple, a range, …"""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def literal(value: object, key: str) -> str:
    """A value in Hydra's grammar; `key` is for messages. Errors: ConfigError for what a config cannot hold."""
    match value := _plain(value):
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Enum():
            return value.name
        case str() | os.PathLike():
            return terminal.override("", os.fsdecode(value))[1:]
        case numbers.Integral():
            return str(int(value))
        case numbers.Real():
            return repr(float(value))
        case Mapping():
            return f"{{{','.join(f'{_name(name, key)}:{literal(one, key)}' for name, one in value.items())}}}"
        case Sequence() if _is_sequence(value):
            return f"[{','.join(literal(one, key) for one in value)}]"
    if callable(value) and hasattr(value, "__qualname__"):
        return terminal.override("", _target(value, key))[1:]
    raise ConfigError(f"{key}: a config holds no {type(value).__name__}. Give text, a number, a list or a dict.")


def number_of(text: str, key: str) -> int | float | str | None:
    """The value of an override of a key that holds numbers; text that is no number, or of another key, as it is."""
    if not keys.types_of(key) & {int, float}:
        return text
    if text == "null":
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _name(name: object, key: str) -> str:
    """A key of a mapping in Hydra's grammar, which has no quotes for one: what has a meaning there is escaped."""
    if isinstance(name, str):
        escaped = re.sub(r"[\\()\[\]{}:=, \t]", lambda match: f"\\{match[0]}", name)
        with contextlib.suppress(HydraException):
            if list(OverridesParser.create().parse_override(f"key={{{escaped}:0}}").value()) == [name]:  # type: ignore[arg-type]
                return escaped
    raise ConfigError(
        f"{key}: {name!r} cannot be a key within it. Use letters, digits and _-/.+*?$%@|, and no word that means "
        "something else, such as null."
    )


def _target(value: Any, key: str) -> str:
    """`package.module:callable` of a function or class."""
    target = f"{value.__module__}:{value.__qualname__}"
    if value.__module__ == "__main__":
        raise ConfigError(f"{key}: {target}: {IN_MAIN}")
    if "<" in target:
        raise ConfigError(f"{key}: {target} has no name that a process could import it by. Write it into a module.")
    return target
