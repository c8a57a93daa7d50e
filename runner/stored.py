"""Reading what stands in a run directory, which may be cut off, altered or written by somebody else.

Every such file is read here: what comes back has the shape it should have, so that no later code meets another one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from .errors import Damaged
from .metrics import HEADLINE

#: Whole numbers beyond have no place in any format that they are handed to.
LARGEST = 2**63
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
#: What a user can do about a file of a run in general.
REMEDY = "Bring back the file as the run wrote it, or leave that run out."


@contextlib.contextmanager
def opened(path: Path, remedy: str = REMEDY) -> Iterator[BinaryIO | None]:
    """A regular file, open for reading; None where there is none.

    Errors: Damaged for what cannot be read: a folder, a symbolic link (it may point anywhere), a pipe, lack of rights.
    """
    try:
        # A pipe in its place would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "Make it readable for the user who runs this, or leave that run out."
        raise Damaged(f"{path} cannot be read: {why}. {remedy}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Damaged(f"{path} cannot be read: it is not a regular file. {remedy}")
        with open(descriptor, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(descriptor)


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
    return _read(path, shape, remedy, lambda text: yaml.load(text, _WithoutAliases))


class _WithoutAliases(yaml.SafeLoader):
    """A few lines of aliases would stand for more than fits into memory, or for themselves; no run writes any."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no run writes")
        return super().compose_node(parent, index)


def _read(path: Path, shape: Any, remedy: str, parse: Any) -> Any:
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        value = parse(text)
        check(value, shape)
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError, yaml.YAMLError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise Damaged(f"{path} is damaged: {why}. {remedy}") from error
    return value


def check(value: Any, shape: Any, name: str = "it") -> None:
    """Errors: ValueError that names the part of a parsed value which does not fit a type.

    Types are None, bool, int (below 2⁶³), float (NaN and ±∞ too), str (that can be encoded), `Any`, `Literal`, unions,
    lists, dicts with keys of text, and dataclasses and typed dicts, of which a file may have further keys.
    """
    origin, inner = get_origin(shape), get_args(shape)
    if origin in (Union, types.UnionType):
        if value is not None or type(None) not in inner:
            check(value, next(option for option in inner if option is not type(None)), name)
    elif origin is Literal:
        _require(value in inner, f"{name} is not one of {', '.join(map(str, inner))}")
    elif is_dataclass(shape):
        _require(isinstance(value, dict), f"{name} is not a mapping")
        hints = get_type_hints(shape)
        for part in fields(shape):
            if part.name in value:
                check(value[part.name], hints[part.name], part.name)
            else:
                optional = part.default is not MISSING or part.default_factory is not MISSING
                _require(optional, f"{part.name} is missing in it")
    elif is_typeddict(shape):
        _require(isinstance(value, dict), f"{name} is not a mapping")
        for key, kind in get_type_hints(shape).items():
            if key in value:
                check(value[key], kind, key)
            else:
                _require(key not in shape.__required_keys__, f"{key} is missing in it")
    elif origin is dict or shape is dict:
        _require(isinstance(value, dict), f"{name} is not a mapping")
        for key, item in value.items():
            check(key, str, f"a key of {name}")
            check(item, inner[1] if inner else Any, str(key))
    elif origin is list or shape is list:
        _require(isinstance(value, list), f"{name} is not a list")
        for item in value:
            check(item, inner[0] if inner else Any, f"an entry of {name}")
    else:
        _check_plain(value, shape, name)


def typed(value: Any, shape: Any) -> Any:
    """A parsed value as the type it should have: mappings become dataclasses. Errors: ValueError as in `check`."""
    check(value, shape)
    return _as(value, shape)


def _as(value: Any, shape: Any) -> Any:
    if not is_dataclass(shape):
        return value
    hints = get_type_hints(shape)
    known = [part.name for part in fields(shape) if part.name in value]
    return shape(**{name: _as(value[name], hints[name]) for name in known})  # type: ignore[operator]


def _check_plain(value: Any, shape: Any, name: str) -> None:
    if shape is bool:
        _require(isinstance(value, bool), f"{name} is neither true nor false")
    elif shape in (int, float):
        kinds = int if shape is int else (int, float)
        _require(isinstance(value, kinds) and not isinstance(value, bool), f"{name} is not a number")
        _require(isinstance(value, float) or abs(value) < LARGEST, f"{name} is too large")
    elif shape is str:
        _require(isinstance(value, str), f"{name} is not text")
        # Bytes of a file's name that are not text are kept as the halves from DC80 to DCFF.
        _require(not re.search("[\ud800-\udc7f\udd00-\udfff]", value), f"{name} is not text")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


class Progress(TypedDict):
    """How far a run is: `training.Progress`."""

    step: int
    epoch: int
    batch: int
    best: float | None
    best_step: int
    waited: int
    settled: int


class _Result(TypedDict):
    """What is listed and compared."""

    final: dict[str, float]
    test: dict[str, float]
    exported: str | None
    monitor: str
    best: float | None
    seconds: float


class Result(_Result):
    """`result.json` of a run that was trained here; one that was rebuilt from MLflow has less."""

    ending: str
    test_images: int
    progress: Progress
    epochs: int
    device: str


class OfStore(TypedDict, total=False):
    """What one store has of a run: a store of MLflow's, a folder of TensorBoard's, whatever a tracker sends it to."""

    run_id: str
    experiment_id: str
    params_sent: bool
    offset: int
    mark: str
    ended: bool
    has_lost: bool


class Tracked(OfStore, total=False):
    """`mlflow.json`, and the same of another tracker."""

    uri: str
    key: str
    home: str
    said: str
    own: str
    beside: str | None
    others: dict[str, OfStore]
    rebuilt: str
    refused: str


class Mistake(TypedDict):
    """Of `mistakes.json`."""

    index: int
    label: str
    predicted: str
    confidence: float
    png: str


class Mistakes(TypedDict):
    """`mistakes.json`: how many there were, and the worst."""

    images: int
    wrong: int
    worst: list[Mistake]


class Failure(TypedDict):
    """Why a process of a run ended."""

    message: str
    exit_code: int


class Refusal(TypedDict):
    """Why a job of a sweep was not started."""

    job: str
    reason: str
    exit_code: int


class _Event(TypedDict):
    event: str
    time: float


class Metrics(_Event):
    """Numbers of a step."""

    step: int
    epoch: int
    values: dict[str, float]


class Dataset(_Event):
    """What a run is trained on."""

    name: str
    digest: str
    source: str
    profile: dict[str, int]


class Tags(_Event):
    """Tags of the run."""

    values: dict[str, str]


class Note(_Event):
    """What a person should know."""

    text: str


class _Checkpoint(_Event):
    name: str
    better: bool


class Checkpoint(_Checkpoint, total=False):
    """A checkpoint that was written; `final`: what the run ended with."""

    final: bool


class Artifact(_Event):
    """A file or folder of the results."""

    path: str
    folder: str


class Model(_Event):
    """An export."""

    path: str


class Ended(_Event):
    """The end of an attempt."""

    status: Literal["FINISHED", "FAILED", "KILLED"]
    reason: str
    exit_code: int


#: Name of an event in the journal → its shape.
EVENTS: dict[str, Any] = {
    "started": _Event, "resumed": _Event, "metrics": Metrics, "dataset": Dataset, "tags": Tags, "note": Note,
    "checkpoint": Checkpoint, "artifact": Artifact, "model": Model, "ended": Ended,
}  # fmt: skip
#: Seconds since 1970 at which calendars end.
LATEST = 253_402_300_799


def event(line: bytes) -> dict[str, Any] | None:
    """The event in a line of a journal; None for what a crash tore, damage, and kinds of other versions."""
    found = fitting(line, _Event)
    if found is None or not 0 <= found["time"] < LATEST or found["event"] not in EVENTS:
        return None
    return fitting(line, EVENTS[found["event"]])


def fitting(line: bytes, shape: Any) -> Any:
    """The JSON value of a line that fits a type (see `check`), else None."""
    try:
        found = json.loads(line)
        check(found, shape)
    except (ValueError, RecursionError):
        return None
    return found


def result(path: Path, whole: bool = False) -> dict[str, Any] | None:
    """`result.json` of a run, `whole` for one that was trained here; None where it has none yet. Errors: Damaged."""
    remedy = "Remove it; the command of the run with checkpoint.resume=auto writes it again."
    found = read_json(path, Result if whole else _Result, remedy)
    needed = {HEADLINE.name, *({"params"} if whole else ())}
    if found is None or needed <= found["final"].keys():
        return found
    raise Damaged(f"{path} is damaged: final has not all of {', '.join(sorted(needed))}. {remedy}")


class _OfNetwork(TypedDict):
    top1: list[float]
    confusion: list[list[int]]


def per_class(path: Path) -> dict[str, Any]:
    """`per_class.json` of a run; empty where it has none yet. Errors: Damaged."""
    found = read_json(path, dict[str, Any]) or {}
    try:
        for name, part in found.items():
            check(part, list[str] if name == "classes" else _OfNetwork, name)
            rows = [] if name == "classes" else [part["top1"], part["confusion"], *part["confusion"]]
            _require(all(len(row) == len(found["classes"]) for row in rows), f"{name} has not a row a class")
        _require(not found or found.keys() >= {"classes", "student"}, "a part is missing in it")
    except (ValueError, KeyError) as error:
        raise Damaged(f"{path} is damaged: {error}. {REMEDY}") from error
    return found


def mistakes(path: Path) -> dict[str, Any]:
    """`mistakes.json` of a run; empty where it has none yet. Errors: Damaged."""
    found = read_json(path, Mistakes) or {}
    if not all(BASE64.fullmatch(mistake["png"]) for mistake in found.get("worst", [])):
        raise Damaged(f"{path} is damaged: an image in it is not base64. {REMEDY}")
    return found


def _is_whole(known: dict[str, Any]) -> bool:
    needed = {"experiment_id", "params_sent", "offset"} if "run_id" in known else set()
    return known.get("offset", 0) >= 0 and known.keys() >= needed


def tracked(path: Path) -> dict[str, Any]:
    """`mlflow.json` of a run, or the same of another tracker; empty where nothing was delivered. Errors: Damaged."""
    remedy = "Remove it; `python -m runner sync RUN` then delivers the run as a new one."
    found = read_json(path, Tracked, remedy) or {}
    whole = "rebuilt" in found or "run_id" not in found or found.keys() >= {"key", "uri"}
    stores = [] if "rebuilt" in found else [found, *found.get("others", {}).values()]
    if not whole or not all(map(_is_whole, stores)):
        raise Damaged(f"{path} is damaged: a part of it is missing or impossible. {remedy}")
    return found
