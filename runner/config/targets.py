"""User-defined callables, named in the config as `package.module:callable`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from typing import Any

from ..errors import ConfigError, nearest


def load_target(target: str) -> Callable[..., Any]:
    """The callable that `package.module:callable` names; modules of the working directory can be imported.

    What importing or calling it does to Paddle's defaults is undone; `inspect.unwrap` gives the callable itself.
    Errors: ConfigError if the module, or the callable in it, is not found.
    """
    with paddle_defaults():
        target_object = _imported(target)

    @functools.wraps(target_object, updated=())
    def call(*arguments: Any, **kwargs: Any) -> Any:
        with paddle_defaults():
            return target_object(*arguments, **kwargs)

    return call


@contextlib.contextmanager
def paddle_defaults() -> Iterator[None]:
    """Within the context new tensors of Paddle are float32 and computed at once; afterwards as they were before it.

    Leaves Paddle alone where it is not imported.
    """
    before = _defaults()
    _set_defaults("float32", True)
    try:
        yield
    finally:
        _set_defaults(*before)


def _defaults() -> tuple[str, bool]:
    """Paddle's default dtype, and whether it is in dynamic mode."""
    paddle = sys.modules.get("paddle")
    return (paddle.get_default_dtype(), paddle.in_dynamic_mode()) if paddle else ("float32", True)


def _set_defaults(dtype: str, is_dynamic: bool) -> None:
    if (paddle := sys.modules.get("paddle")) and _defaults() != (dtype, is_dynamic):
        paddle.set_default_dtype(dtype)
        (paddle.disable_static if is_dynamic else paddle.enable_static)()


def _imported(target: str) -> Callable[..., Any]:
    """Errors: ConfigError."""
    module_name, _, path = target.partition(":")
    try:
        _import_from_working_directory(module_name.partition(".")[0])
        target_object: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"target={target}: there is no module '{error.name}'. It is looked for in the working directory "
            f"({os.getcwd()}) and among the installed packages."
        ) from error
    for name in path.split("."):
        if not hasattr(target_object, name):
            raise ConfigError(f"target={target}: '{module_name}' has no '{name}'.{nearest(name, dir(target_object))}")
        target_object = getattr(target_object, name)
    if not callable(target_object):
        raise ConfigError(f"target={target}: it is a {type(target_object).__name__}, not a function or class.")
    return target_object


def wrong_result(setting: str, value: Any, wanted: str) -> ConfigError:
    """The error for a callable, named as `KEY=TARGET`, that returned something else than is `wanted`."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    kind = f"a {type(value).__name__}" if shape is None else f"{str(dtype).removeprefix('paddle.')} {list(shape)}"
    return ConfigError(f"{setting} returned {'None' if value is None else kind}, not {wanted}.")


def _import_from_working_directory(name: str) -> None:
    """Import a top-level module or package from the working directory, if it is there.

    The working directory is last in its import path, so that a `random.py` in it does not shadow the standard module.
    """
    place = os.getcwd()
    if place not in sys.path:
        sys.path.append(place)
    spec = PathFinder.find_spec(name, [place])
    if spec is None or name in sys.modules:
        return
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        if spec.loader is not None:
            spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise
