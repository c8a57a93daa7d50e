"""Writes the reference of the configuration into its page: `python -m docs.reference`.

Every group with its choices, and every key with type, default, bounds and meaning, from the schema in `runner/config/`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from runner import config as cfg
from runner.cli.config_dir import choices

PAGE = Path(__file__).with_name("configuration.md")
#: What stands before the generated part of the page.
MARK = "<!-- The rest is written by python -m docs.reference -->\n\n"
#: A field and the docstring under it.
FIELD = re.compile(r'^    (\w+): .+\n    """((?:.|\n)+?)"""', re.MULTILINE)


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page as it should be."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return written + mark + reference()


def reference() -> str:
    """Every group with its choices, and every key with type, default, bounds and meaning."""
    known, parts = choices(), []
    hints = get_type_hints(cfg.Config)
    for field, meaning in _fields(cfg.Config):
        schema = _schema(hints[field.name])
        parts.append(f"## {field.name}\n\n{meaning}\n")
        if field.name in known:
            parts.append(f"Choices: {', '.join(f'`{field.name}={choice}`' for choice in known[field.name])}\n")
        if schema is None:
            parts.append(_table(cfg.Config, [(field, meaning)], ""))
            continue
        parts.append(_table(schema, _fields(schema), f"{field.name}."))
        for kind in _below(schema):
            name = next(one.default for one in dataclasses.fields(kind) if one.name == "kind")
            if name == "???":
                continue
            parts.append(f"### {field.name}: {name}\n\n{_summary(kind)}\n")
            parts.append(_table(kind, _own(kind, schema), f"{field.name}."))
        for key, hint in get_type_hints(schema).items():
            # Choices that stand beside each other, each under its name.
            for kind in _below(get_args(hint)[-1]) if get_origin(hint) is dict and _is_schema(hint) else []:
                if not issubclass(kind, schema):
                    name = kind.kind
                    parts.append(f"### {field.name}: {name}\n\n{_summary(kind)}\n")
                    parts.append(_table(kind, _fields(kind), f"{field.name}.{key}.{name}."))
    return "\n".join(parts)


def _own(kind: type, schema: type) -> list[tuple[Any, str]]:
    """The fields that a choice does not share with its group, or has of a type of its own."""
    shared, hints = get_type_hints(schema), get_type_hints(kind)
    return [one for one in _fields(kind) if shared.get(one[0].name) != hints[one[0].name]]


def _table(kind: type, fields: list[tuple[Any, str]], path: str) -> str:
    lines = list(_rows(kind, fields, path))
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n" if lines else ""


def _rows(kind: type, fields: list[tuple[Any, str]], path: str) -> Any:
    hints = get_type_hints(kind)
    for field, meaning in fields:
        hint = hints[field.name]
        nested = _schema(hint)
        default = _default(field)
        if field.name == "kind":
            continue
        bounds = ", ".join(
            f"{sign} {field.metadata[name]}"
            for name, sign in (("min", "≥"), ("above", ">"), ("max", "≤"), ("below", "<")) if name in field.metadata
        )  # fmt: skip
        shown = "" if nested and default not in (None, dataclasses.MISSING) else f"`{_text(default)}`"
        yield f"| `{path}{field.name}` | {_type(hint)}{f', {bounds}' if bounds else ''} | {shown} | {meaning} |"
        if nested and not _below(nested):
            yield from _rows(nested, _fields(nested), f"{path}{field.name}.")


def _fields(kind: type) -> list[tuple[Any, str]]:
    """Every field of a dataclass with the docstring under it, inherited ones as well."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            found = FIELD.findall(inspect.getsource(base))
            meanings |= {name: " ".join(text.split()).replace("|", "\\|") for name, text in found}
    return [(field, meanings.get(field.name, "")) for field in dataclasses.fields(kind)]


def _below(kind: Any) -> list[Any]:
    return [one for sub in kind.__subclasses__() for one in (sub, *_below(sub))]


def _schema(hint: Any) -> Any:
    """The dataclass of a hint, of an optional one too; None for others."""
    found = [one for one in (hint, *get_args(hint)) if dataclasses.is_dataclass(one)]
    return found[0] if found and get_origin(hint) not in (list, dict) else None


def _is_schema(hint: Any) -> bool:
    return dataclasses.is_dataclass(get_args(hint)[-1])


def _default(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _type(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{one.name}`" for one in hint)
    inner = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) in (list, dict):
        return f"{get_origin(hint).__name__} of {', '.join(_type(one) for one in inner)}"
    if inner:
        return f"{_type(inner[0])} or null"
    return getattr(hint, "__name__", "any")


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Enum():
            return value.name
        case list():
            return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0]


if __name__ == "__main__":
    main()
