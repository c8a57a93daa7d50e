"""Names of layers as patterns choose them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..errors import ConfigError, nearest


def check(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Errors: ConfigError for a pattern that matches no name."""
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            some = ", ".join(known[:3] + known[-2:] if len(known) > 5 else known)
            raise ConfigError(
                f"{key}: '{pattern}' matches no layer.{nearest(pattern, known)} Patterns are written as in a shell "
                f"(conv1.*, *.mid_se.*). Layers here: {some}"
            )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches a name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
