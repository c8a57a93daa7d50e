"""Validated reading of run files, which may be truncated, altered or foreign.

Every such file is read here: later code only meets values of the expected types.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import stat
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from .errors import Damaged

#: NaN and infinities in JSON: texts, and bare words in files of earlier versions.
NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
#: Larger integers fit no format that values are passed on to.
LARGEST = 2**63
#: What a user can do about a file of a run in general.
REMEDY = "Bring back the file as the run wrote it, or leave that run out."


def regular_descriptor(path: str | bytes | os.PathLike[str], flags: int = 0, most: int | None = None) -> int:
    """A descriptor of a regular file, open for reading; links to one are followed unless `flags` say otherwise.

    Everything that a user names is opened here, since pipes would be waited for and devices may have no end. Errors:
    OSError, also for a folder, a pipe, a device, a socket, or a file of more than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and (most is None or status.st_size <= most):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", path)
    if stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, and at most {most:,} are read", path)
    raise OSError(errno.EINVAL, "it is not a regular file", path)


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> BinaryIO:
    """A regular file, open for reading, of at most `most` bytes. Errors: OSError as in `regular_descriptor`."""
    return open(regular_descriptor(path, most=most), "rb")


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Errors: OSError as in `regular_descriptor`."""
    with open_regular(path, most) as stream:
        return stream.read()


@contextlib.contextmanager
def opened(path: Path, remedy: str = REMEDY) -> Iterator[BinaryIO | None]:
    """A regular file, open for reading; None where there is none.

    Errors: Damaged for what cannot be read: a folder, a symbolic link (it may point anywhere), a pipe, lack of rights.
    """
    try:
        descriptor = regular_descriptor(path, os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "Make it readable for the user who runs this, or leave that run out."
        raise Damaged(f"{path} cannot be read: {why}. {remedy}") from error
    with open(descriptor, "rb") as stream:
        yield stream


def read_bytes(path: Path, remedy: str = REMEDY) -> bytes | None:
    """The content of a regular file; None where there is none. Errors: Damaged, as `opened` says."""
    with opened(path, remedy) as stream:
        return None if stream is None else stream.read()


def read_text(path: Path, remedy: str = REMEDY) -> str | None:
    """The text of a file; None where there is none. Errors: Damaged."""
    content = read_bytes(path, remedy)
    try:
        return None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} is damaged: it is not UTF-8 text. {remedy}") from error


def read_json(path: Path, shape: Any, remedy: str = REMEDY) -> Any:
    """The value in a JSON file, which fits a type (see `check`); None where there is no file. Errors: Damaged."""
    return _read(path, shape, remedy, json.loads)


def read_yaml(path: Path, shape: Any, remedy: str = REMEDY) -> Any:
    """The value in a YAML file, which fits a type (see `check`); None where there is no file. Errors: Damaged."""
    return _read(path, shape, remedy, parse_yaml)


#: The compiled parser, ten times as fast, if it is installed.
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def parse_yaml(text: str) -> Any:
    """The value of a YAML text without aliases: a few lines of them would stand for more than fits into memory.

    Errors: yaml.YAMLError, RecursionError for lists in lists without end.
    """
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
        raise yaml.YAMLError("it has an alias, which no run writes")
    return yaml.load(text, _LOADER)


def _read(path: Path, shape: Any, remedy: str, parse: Any) -> Any:
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        value = typed(parse(text), shape)
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        why = "it is nested too deep" if isinstance(error, RecursionError) or "nesting depth" in text else text
        raise Damaged(f"{path} is damaged: {why}. {remedy}") from error
    return value


#: Caches what Python recomputes each time: the types of a class's fields, the parts of a type.
hints_of: Callable[[Any], dict[str, Any]] = functools.lru_cache(get_type_hints)
_parts: Callable[[Any], tuple[Any, tuple[Any, ...]]] = functools.lru_cache(
    lambda shape: (get_origin(shape), get_args(shape))
)


def check(value: Any, shape: Any, name: str = "it") -> None:
    """Errors: ValueError that names the part of a parsed value which does not fit a type.

    Types are None, bool, int (below 2⁶³), float (also `NO_NUMBERS`), str (that can be encoded), `Any`, `Literal`,
    unions, lists, dicts with keys of text, and dataclasses and typed dicts, of which a file may have further keys.
    """
    # The fast path: nearly all values are plain.
    if type(value) is shape and (
        shape is float or (shape is int and abs(value) < LARGEST) or (shape is str and value.isascii())
    ):
        return
    origin, inner = _parts(shape)
    if origin in (Union, types.UnionType):
        if value is not None or type(None) not in inner:
            check(value, next(option for option in inner if option is not type(None)), name)
    elif origin is Literal:
        require(value in inner, f"{name} is not one of {', '.join(map(str, inner))}")
    elif is_dataclass(shape):
        require(isinstance(value, dict), f"{name} is not a mapping")
        hints = hints_of(shape)
        for part in fields(shape):
            if part.name in value:
                check(value[part.name], hints[part.name], part.name)
            else:
                optional = part.default is not MISSING or part.default_factory is not MISSING
                require(optional, f"{part.name} is missing in it")
    elif is_typeddict(shape):
        require(isinstance(value, dict), f"{name} is not a mapping")
        for key, kind in hints_of(shape).items():
            if key in value:
                check(value[key], kind, key)
            else:
                require(key not in shape.__required_keys__, f"{key} is missing in it")
    elif origin is dict or shape is dict:
        require(isinstance(value, dict), f"{name} is not a mapping")
        kind = inner[1] if inner else Any
        for key, item in value.items():
            check(key, str, "a key of a mapping")
            if kind is not float or type(item) is not float:
                check(item, kind, str(key))
    elif origin is list or shape is list:
        require(isinstance(value, list), f"{name} is not a list")
        for item in value:
            check(item, inner[0] if inner else Any, f"an entry of {name}")
    else:
        _check_plain(value, shape, name)


def typed(value: Any, shape: Any) -> Any:
    """A parsed value as the type it should have: mappings become dataclasses. Errors: ValueError as in `check`."""
    check(value, shape)
    return _as(value, shape)


def _as(value: Any, shape: Any) -> Any:
    if (shape is float and type(value) is float) or shape is str:
        return value
    origin, inner = _parts(shape)
    if origin in (Union, types.UnionType) and value is not None:
        return _as(value, next(option for option in inner if option is not type(None)))
    if origin is list:
        return [_as(item, inner[0]) for item in value]
    if origin is dict:
        return {key: _as(item, inner[1]) for key, item in value.items()}
    if is_typeddict(shape):
        hints = hints_of(shape)
        return {key: _as(item, hints.get(key, Any)) for key, item in value.items()}
    if shape is float and value in NO_NUMBERS:
        return float(value)
    if not is_dataclass(shape):
        return value
    hints = hints_of(shape)
    names = [part.name for part in fields(shape) if part.name in value]
    return shape(**{name: _as(value[name], hints[name]) for name in names})  # type: ignore[operator]


def _check_plain(value: Any, shape: Any, name: str) -> None:
    if shape is bool:
        require(isinstance(value, bool), f"{name} is neither true nor false")
    elif shape is float and isinstance(value, str) and value in NO_NUMBERS:
        pass
    elif shape in (int, float):
        kinds = int if shape is int else (int, float)
        require(isinstance(value, kinds) and not isinstance(value, bool), f"{name} is not a number")
        require(isinstance(value, float) or abs(value) < LARGEST, f"{name} is too large")
    elif shape is str:
        require(isinstance(value, str), f"{name} is not text")
        # Bytes of a file's name that are not text are kept as the halves from DC80 to DCFF.
        require(not re.search("[\ud800-\udc7f\udd00-\udfff]", value), f"{name} is not text")
    elif isinstance(shape, type) and issubclass(shape, Enum):
        require(isinstance(value, shape), f"{name} is not one of {', '.join(shape.__members__)}")


def require(holds: bool, otherwise: str) -> None:
    """Errors: ValueError saying what does not hold."""
    if not holds:
        raise ValueError(otherwise)


def fitting(line: bytes, shape: Any) -> Any:
    """The JSON value of a line that fits a type (see `check`), else None."""
    try:
        return typed(json.loads(line), shape)
    except (ValueError, RecursionError):
        return None
