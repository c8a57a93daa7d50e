"""Converts the user's `KEY=VALUE` to Hydra's grammar."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from antlr4 import CommonTokenStream, InputStream, ParserRuleContext
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from .. import terminal
from ..config import Callback, Config, keys
from ..errors import ConfigError
from . import not_overrides
from .config_dir import choices
from .help import ADDED

#: Hydra's keys that are paths, and a leading `~`, in quotes or without.
FOLDERS, HOME = ("hydra.run.dir", "hydra.sweep.dir"), re.compile(r"^(['\"]?)(~[^/'\"]*)")
#: Hydra's groups, written as keys.
ENGINES = ("hydra.launcher", "hydra.sweeper")
#: `KEY=VALUE`, or `GROUP=CHOICE` of a group at its default place.
ASSIGNMENT = re.compile(r"(\+{0,2})([\w./]+)=(.*)", re.DOTALL)
#: `GROUP=glob(PATTERN)`, also of a group at another place.
PATTERN = re.compile(r"(\+{0,2}([\w./]+)(?:@[\w.]+)?=)(glob\(.*\))", re.DOTALL)
#: Functions of overrides whose arguments are values; those of the others are numbers.
OF_VALUES = ("choice", "shuffle", "tag")
#: A callback in a list that is named without its arguments: `[my_callbacks:Watch]`.
BARE_TARGET = re.compile(r"""(?<=[\[,])(\s*)(['"]?[\w.]+:[\w.]+['"]?)(?=\s*[\],])(?![^{]*\})""")


def all_readable(words: list[str]) -> list[str]:
    """The overrides of one config, as `readable` converts each. Errors: ConfigError, also for words that are none."""
    not_overrides.refuse(words)
    return [readable(word, sweeps=False) for word in words]


def readable(argument: str, sweeps: bool) -> str:
    """Convert a word of the command line to Hydra's grammar; words that Hydra reads as intended are unchanged.

    The value of a key that holds text is that text: it is quoted if Hydra could not parse it, or would read a number
    (`2024_01`). A list needs no brackets, a recipe and a mapping no `+`. `sweeps`: commas separate the values of a
    sweep. Errors: ConfigError for several values without a sweep.
    """
    if not argument.lstrip("+~").partition("=")[0].strip():
        raise not_overrides.error_of(argument)
    argument = _expanded(argument)
    match = ASSIGNMENT.fullmatch(argument)
    if not match:
        with contextlib.suppress(HydraException):
            _parse(argument, _Numbers(whole=False))
        return argument
    sign, key, value = match.groups()
    if "." not in key and key in choices():
        # Users need not know whether a group is in the defaults list.
        sign = "+" if key in ADDED else ""
    if key.startswith("hydra."):
        value = _of_hydra(argument, key, value)
    types = _types(key)
    is_text = types == {str}
    numbers = _Numbers(whole=is_text)
    try:
        parsed = _parse(f"{key}={value}", numbers)
    except HydraException:
        is_plain = not any(hint is Any or get_origin(hint) for hint in types)
        return f"{sign}{key}={_literal(value, sweeps) if is_plain else value}"
    if key == "hydra.searchpath":
        _require_places(argument, parsed.value())
    is_switched = isinstance(parsed.value(), (bool, int, float)) or (parsed.value() is None and key in choices())
    if is_switched and types and all(map(is_dataclass, types)):
        raise ConfigError(_not_a_switch(argument, key, types))
    if types and all((get_args(hint) or [hint])[-1] is str for hint in types):
        value = numbers.quoted(f"{key}={value}").partition("=")[2]
    if not sign and types and all(get_origin(hint) is dict for hint in types) and value.startswith("{"):
        # To Hydra each of its keys is new.
        sign = "+"
    is_list = bool(types) and all(get_origin(hint) is list for hint in types)
    several = parsed.value_type is ValueType.SIMPLE_CHOICE_SWEEP
    # Which GPUs a job uses is not swept over.
    if is_list and (not sweeps or (several and key == "launch.devices")) and _is_bare(parsed, several):
        value, several = f"[{value}]", False
    if types == {list[Callback]}:
        value = BARE_TARGET.sub(r"\1{target:\2}", value)
    if several and not sweeps:
        whole = f" As a single string: {terminal.pasted(key, value)}" if is_text else ""
        brackets = f" As a list: {terminal.words([f'{key}=[{value}]'])}" if key == "tracking" else ""
        raise ConfigError(f"{argument} has several values. For a run with each of them add -m.{whole}{brackets}")
    return f"{sign}{key}={value}"


def _of_hydra(argument: str, key: str, value: str) -> str:
    """The value of one of Hydra's own keys. Errors: ConfigError for one that would not do what it says."""
    if key in ENGINES and not value.startswith("{"):
        group = key.replace(".", "/")
        raise ConfigError(f"{argument}: '{group}' is a config group, which is written with a slash: {group}={value}")
    if key == "hydra.job.chdir" and value.lower() != "false":
        raise ConfigError(f"{argument}: paths are relative to the working directory, which a run keeps. Remove it.")
    if key in FOLDERS:
        if not value.strip("'\""):
            raise ConfigError(f"{key} is empty: give it a folder, such as {key}=outputs/mine, or omit it.")
        return HOME.sub(lambda home: home[1] + keys.expanded(home[2]), value)
    return value


def _expanded(argument: str) -> str:
    """`GROUP=glob(PATTERN)` with the choices of the group that match. Errors: ConfigError if there are none."""
    if not (match := PATTERN.fullmatch(argument)):
        return argument
    try:
        pattern = _parse(f"group={match[3]}", _Numbers(whole=False)).value()
    except HydraException:
        return argument
    group = match[2]
    if not isinstance(pattern, Glob):
        return argument
    if group not in choices():
        raise ConfigError(f"{argument}: glob() stands for choices of a config group, which '{group}' is not.")
    if names := pattern.filter(choices()[group]):
        return f"{match[1]}{','.join(names)}"
    raise ConfigError(f"{argument} matches no choice. Valid: {', '.join(choices()[group])}")


def _require_places(argument: str, places: Any) -> None:
    """Errors: ConfigError for a place of configs that does not exist, which Hydra would leave out."""
    for place in places if isinstance(places, list) else [places] if places else []:
        scheme, _, name = str(place).rpartition("://")
        top = name.partition(".")[0]
        if scheme in ("", "file") and not Path(name).is_dir():
            raise ConfigError(f"{argument}: there is no folder {name}.")
        if scheme == "pkg" and not (top and importlib.util.find_spec(top)):
            raise ConfigError(f"{argument}: there is no package '{name}'.")


def _not_a_switch(argument: str, key: str, types: set[Any]) -> str:
    named = [f"{key}={choice}" for choice in choices().get(key, [])]
    named += [f"~{key} for none"] if getattr(Config, key, "") is None else []
    below = [f"{key}.{field.name}" for hint in types for field in fields(hint) if field.name != "kind"]
    what = "is a config group" if named else "has keys of its own"
    return f"{argument}: '{key}' {what}, and is not an on/off switch. Valid: {', '.join([*named, *below])}"


def _types(key: str) -> set[Any]:
    """The types of a key, including Hydra's own keys."""
    if key.startswith("hydra."):
        return keys.types_of(key.removeprefix("hydra."), HydraConf)
    return keys.types_of(key)


def _literal(value: str, sweeps: bool) -> str:
    """Quote a value that Hydra cannot parse, unless it may be several of a sweep, or is half in quotes."""
    if value.startswith(("'", '"')) or (sweeps and "," in value):
        return value
    return terminal.quoted(value, looks_up=True)


def _is_bare(parsed: Override, several: bool) -> bool:
    """Whether a value is what a list holds: an entry or some, but no list, null or `${…}`."""
    value = parsed.value()
    is_looked_up = isinstance(value, str) and value.startswith("${")
    return several or not (parsed.is_sweep_override() or is_looked_up or value is None or isinstance(value, list))


def _parse(text: str, visitor: _Numbers) -> Override:
    """Parse an override as Hydra does, with a custom visitor.

    Errors: HydraException; ConfigError for a number of more digits than Python reads, and for brackets without end.
    """
    listener = HydraErrorListener()
    lexer = OverrideLexer(InputStream(text))
    parser = OverrideParser(CommonTokenStream(lexer))
    for recognizer in (lexer, parser):
        recognizer.removeErrorListeners()
        recognizer.addErrorListener(listener)
    try:
        parsed: Override = visitor.visit(parser.override())
    except (ValueError, RecursionError) as error:
        key, _, value = text.partition("=")
        raise ConfigError(f"{key} has a value of {len(value):,} characters that cannot be read: {error}") from error
    return parsed


class _Numbers(HydraOverrideVisitor):  # type: ignore[misc]
    """Records the spans that Hydra parses as non-strings: numbers and booleans, with `whole` lists as well."""

    def __init__(self, whole: bool) -> None:
        super().__init__(create_functions())
        self.whole = whole
        self.spans: list[tuple[int, int]] = []

    def quoted(self, text: str) -> str:
        """The override with all of these spans quoted."""
        for start, stop in reversed(self.spans):
            text = f"{text[:start]}{terminal.quoted(text[start:stop].strip())}{text[stop:]}"
        return text

    def _note(self, context: ParserRuleContext) -> None:
        self.spans.append((context.start.start, context.stop.stop + 1))

    def visitPrimitive(self, ctx: ParserRuleContext) -> Any:
        """A number, a boolean or a text."""
        value = super().visitPrimitive(ctx)
        if isinstance(value, (bool, int, float)):
            self._note(ctx)
        return value

    def visitElement(self, ctx: ParserRuleContext) -> Any:
        """A primitive, a list, a mapping or a function."""
        before = len(self.spans)
        value = super().visitElement(ctx)
        is_container = isinstance(value, (list, dict))
        is_of_numbers = ctx.function() and ctx.getChild(0).getChild(0).getText() not in OF_VALUES
        if is_of_numbers or (self.whole and is_container):
            del self.spans[before:]
        if self.whole and is_container:
            self._note(ctx)
        return value
