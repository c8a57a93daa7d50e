"""Callables of the user, named in the config as `package.module:callable`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from .errors import ConfigError, nearest


def load_target(target: str) -> Callable[..., Any]:
    """The callable that `package.module:callable` names; the working directory is importable.

    Errors: ConfigError where the module or the callable in it is not found.
    """
    module_name, _, path = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"target={target}: there is no module '{error.name}'. It is looked for in the working directory "
            f"({os.getcwd()}) and among the installed packages."
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"target={target}: '{module_name}' has no '{name}'.{nearest(name, dir(found))}")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"target={target}: it is a {type(found).__name__}, not a function or class.")
    return found
