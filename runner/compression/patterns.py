"""Matches layer names against patterns."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..errors import ConfigError, nearest


def check(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Errors: ConfigError for a pattern that matches no name."""
    layers = list(names)
    for pattern in patterns:
        if not any_of(layers, pattern):
            some = ", ".join(layers[:3] + layers[-2:] if len(layers) > 5 else layers)
            raise ConfigError(
                f"{key}: '{pattern}' matches no layer.{nearest(pattern, layers)} Patterns are written as in a shell "
                f"(conv1.*, *.mid_se.*). Layers here: {some}"
            )


def any_of(names: Iterable[str], pattern: str) -> bool:
    """Whether a pattern matches one of the names."""
    return any(fnmatchcase(name, pattern) for name in names)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches a name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
