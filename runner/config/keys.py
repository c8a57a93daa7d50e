"""The keys of the schema: their types, whichever choices are taken, and suggestions for misspelt ones."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

from .. import terminal
from ..errors import ConfigError
from . import GROUPS, Config
from .fields import PATH

#: Keys of other tools → the last part of the key here.
SYNONYMS = {
    "learning_rate": "lr", "bs": "batch_size", "num_epochs": "epochs", "max_epochs": "epochs", "num_workers": "workers",
    "data_dir": "root", "arch": "architecture", "gpus": "devices", "wd": "weight_decay",
}  # fmt: skip
#: Keys and choices (`GROUP=CHOICE`) of earlier versions → what to write now, with `…` for the value; empty if nothing
#: needs to be written.
RENAMED = {
    "compression.prune.macs_reduction": "compression.prune.budget=macs compression.prune.allocation=sensitivity "
    "compression.prune.ratio=…",
    "compression.prune.axis": "",
    "mode.teacher_weights": "mode.teacher_weight=… and mode.more_teachers.NAME.teacher_weight=…",
    "hydra/sweeper=optuna": "hydra/sweeper=search with +sweep/optuna=default",
    "hydra/sweeper/sampler": "sweep.optuna.sampler=… with +sweep/optuna=default",
    "hydra.sweeper.sampler": "sweep.optuna.sampler=… with +sweep/optuna=default",
    "hydra.sweeper.n_trials": "sweep.optuna.trials=… with +sweep/optuna=default",
    "hydra.sweeper.n_jobs": "sweep.optuna.parallel=… with +sweep/optuna=default",
}
#: A home directory at the beginning of a path.
HOME = re.compile(r"^(sqlite:///)?(~[^/]*)")
#: Most keys that are suggested, and the placeholder in them for `=VALUE`.
SUGGESTED, EQUALS = 3, "="


def types_of(key: str, schema: type = Config) -> set[Any]:
    """The types that a dotted key has in the choices that have it; empty if no choice does.

    Of an optional type the one that is not None. Everything below `kwargs` has the type Any.
    """
    hints: set[Any] = {schema}
    for part in key.split("."):
        hints = {below for one in hints for below in _below(one, part)}
    return hints


def _below(hint: Any, part: str) -> Iterator[Any]:
    if is_dataclass(hint):
        for choice in _choices(hint):  # type: ignore[arg-type]
            if part in (hints := get_type_hints(choice)):
                yield from _options(hints[part])
    elif get_origin(hint) in (list, dict):
        yield from _options(get_args(hint)[-1])
    elif hint is Any:
        yield Any


def _choices(schema: type[Any]) -> Iterator[type[Any]]:
    """A dataclass and all its subclasses: the choices of a group."""
    yield schema
    for below in schema.__subclasses__():
        yield from _choices(below)


def _options(hint: Any) -> list[Any]:
    is_union = get_origin(hint) in (Union, types.UnionType)
    return [one for one in get_args(hint) if one is not type(None)] if is_union else [hint]


#: Types without parts.
PLAIN = (str, int, float, type(None))


def walk(part: Any, path: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """(full key, value, dataclass it is in, dataclass field) of every leaf."""
    for field in fields(part):
        value = getattr(part, field.name)
        # A fast path: this is called some hundred times for every command and every listed run, mostly with plain
        # values.
        inside = [] if isinstance(value, PLAIN) else list(_inside(value, f"{path}{field.name}"))
        for place, item in inside:
            yield from walk(item, f"{place}.")
        if not inside:
            yield f"{path}{field.name}", value, part, field


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, dataclass) of a value that is a dataclass, or a list or dictionary of some."""
    if is_dataclass(value):
        yield path, value
    elif isinstance(value, dict):
        yield from ((f"{path}.{key}", item) for key, item in value.items() if is_dataclass(item))
    elif isinstance(value, list):
        yield from ((f"{path}.{number}", item) for number, item in enumerate(value) if is_dataclass(item))


def expand_paths(config: Config) -> None:
    """Expand a leading `~` in every path of a config."""
    for _, value, part, field in walk(config):
        if field.metadata.get(PATH):
            setattr(part, field.name, _expanded(value))


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(one) for one in value]
    return expanded(value) if isinstance(value, str) else value


def expanded(path: str) -> str:
    """A path with `~` and `~user` expanded, as a shell would, also in the address of an embedded store.

    Relative paths are unchanged: they start at the working directory.
    """
    return HOME.sub(lambda match: f"{match[1] or ''}{os.path.expanduser(match[2])}", path)


def unknown_key(key: str, valid: list[str], all_keys: Iterable[str] = (), override: str = "") -> ConfigError:
    """The error for a key that the schema does not have.

    `valid`: the names at its place; `all_keys`: those of the whole config that was searched; `override`: the words
    `KEY=VALUE` that the key comes from, whose value the suggestion repeats.
    """
    if error := renamed(override or key):
        return error
    where, _, name = key.rpartition(".")
    typed, equals, value = (override.lstrip("+~") or key).partition("=")
    others = [one for one in all_keys if one != key and not one.startswith(f"{key}.")]
    if (
        meant := _of_parts_of_other_choices(key)
        or _ending_like(typed, others)
        or _of_other_choices(where, name)
        or _like(key, typed, valid, others)
    ):
        hint = f" Did you mean {' or '.join(_override(one, equals + value) for one in meant[:SUGGESTED])}?"
    else:
        hint = ""
    listed = f"\nValid keys: {', '.join(valid)}" if valid else ""
    return ConfigError(f"There is no key '{name}' in {_place(where)}.{hint}{listed}")


def renamed(override: str) -> ConfigError | None:
    """The error for a key or a choice of an earlier version, with what is written now; None for any other override."""
    written = override.lstrip("+~")
    key, _, value = written.partition("=")
    where, _, name = key.rpartition(".")
    if written in RENAMED and value:
        what, now = written, RENAMED[written]
    elif key in RENAMED:
        what, now = f"key '{name}' in {_place(where)}", RENAMED[key]
    else:
        return None
    remedy = f"Write {now.replace('…', value) if value else now}" if now else "Remove it"
    return ConfigError(f"There is no longer a {what}. {remedy}.")


def _override(meant: str, value: str) -> str:
    """A suggestion with `=VALUE` in it, as it pastes into a shell."""
    key, _, condition = meant.partition(EQUALS)
    return terminal.words([key + value]) + condition


def _place(where: str) -> str:
    return f"'{where}'" if where else "the config"


def _ending_like(typed: str, all_keys: list[str]) -> list[str]:
    """Known keys with the same ending or meaning in other tools: those at the key's own place, else the shortest."""
    where, _, name = typed.lower().rpartition(".")
    ending = [one for one in all_keys if one.rpartition(".")[2] in (name, SYNONYMS.get(name))]
    beside = [one for one in ending if one.rpartition(".")[0] == where]
    return [one + EQUALS for one in beside or sorted(ending, key=lambda one: (one.count("."), one))]


def _of_other_choices(where: str, name: str) -> list[str]:
    """The same for choices not taken: those of the key's group or, if it was typed without one, of any group."""
    choices: dict[str, list[str]] = {}
    for group in [where] if where else GROUPS:
        for choice in GROUPS.get(group, ()):
            for field in fields(choice):
                if field.name in (name, SYNONYMS.get(name)):
                    choices.setdefault(f"{group}.{field.name}{EQUALS} with {group}=", []).append(choice.kind)  # type: ignore[attr-defined]
    return [f"{key}{'|'.join(kinds)}" for key, kinds in choices.items()]


def _of_parts_of_other_choices(key: str) -> list[str]:
    """Choices of a key's group that were not taken and have it: `compression.quantize.pact=… with compression=qat`."""
    group, *path = key.split(".")
    kinds = []
    for choice in GROUPS.get(group, ()) if len(path) > 1 else ():
        below: set[Any] = {choice}
        for part in path:
            below = {hint for one in below if is_dataclass(one) for hint in _options(get_type_hints(one).get(part))}
        if below - {None}:
            kinds.append(choice.kind)  # type: ignore[attr-defined]
    return [f"{key}{EQUALS} with {group}={'|'.join(kinds)}"] if kinds else []


def _like(key: str, typed: str, valid: list[str], all_keys: list[str]) -> list[str]:
    """Keys with a similar spelling: at its place, else of choices of its group that were not taken, else anywhere."""
    where, _, name = key.rpartition(".")
    if near := get_close_matches(name, valid, n=1, cutoff=0.6):
        return [f"{where}.{near[0]}{typed.removeprefix(key)}{EQUALS}".lstrip(".")]
    of_others = {field.name for choice in GROUPS.get(where, ()) for field in fields(choice)}
    if near := get_close_matches(name, sorted(of_others), n=1, cutoff=0.75):
        return _of_other_choices(where, near[0])
    near = get_close_matches(typed.rpartition(".")[2], {one.rpartition(".")[2] for one in all_keys}, n=1, cutoff=0.75)
    return [one + EQUALS for one in all_keys if one.rpartition(".")[2] in near]


def below_null(overrides: Iterable[str]) -> str | None:
    """The first group that overrides set keys of although it may be null and they do not choose it; None if there is
    none."""
    words = [text.lstrip("+~") for text in overrides]
    for word in words:
        path = word.partition("=")[0].split(".")
        for group in (".".join(path[:end]) for end in range(1, len(path))):
            is_chosen = any(
                other.partition("=")[0].rpartition("@")[2] in (group, group.replace(".", "/")) for other in words
            )
            if _may_be_null(group) and not is_chosen:
                return group
    return None


def _may_be_null(group: str) -> bool:
    where, _, name = group.rpartition(".")
    schemas = {
        choice for one in (types_of(where) if where else {Config}) if is_dataclass(one) for choice in _choices(one)
    }  # type: ignore[arg-type]
    hints = [get_type_hints(schema).get(name) for schema in schemas]
    return any(type(None) in get_args(hint) and any(map(is_dataclass, _options(hint))) for hint in hints)


def null_group(key: str) -> ConfigError:
    """The error for keys below a null group; names the choices that have it."""
    group, _, name = key.partition(".")
    having = [
        schema.kind  # type: ignore[attr-defined]
        for schema in GROUPS.get(group, ())
        for field in fields(schema)
        if field.name == name and field.default_factory is not MISSING
    ]
    kinds = [
        kind
        for kind, schemas in GROUPS.items()
        if any(isinstance(hint, type) and issubclass(schema, hint) for hint in types_of(key) for schema in schemas)
    ]
    if having:
        choice = f"{group}={'|'.join(having)}"
    elif kinds:
        choice = f"{key}=CHOICE" if key in GROUPS else f"{kinds[0]}@{key}=CHOICE"
    else:
        choice = f"+{key.replace('.', '/')}=default"
    return ConfigError(f"{key} is null here and has no keys. Choose {choice} first, then {key}.KEY=VALUE")
