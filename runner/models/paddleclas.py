"""The networks of PaddleClas by name: `ppcls.arch.backbone` alone, without its trainer.

All workarounds for PaddleClas are in this file. Tested with PaddleClas 2.6.0 on Paddle 3.3.1.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import importlib.util
import inspect
import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paddle import Tensor, nn
from paddle.utils import unique_name

from ..config.networks import INSTALL_PADDLECLAS, without_paddleclas
from ..errors import ConfigError
from .vision import AUXILIARY, refuse

#: Arguments that networks have for the number of classes, and for the image size that they are built for.
CLASSES, SIZES = ("class_num", "num_classes"), ("img_size", "image_size")
_POOL = nn.AdaptiveAvgPool2D


def build(architecture: str, num_classes: int, size: tuple[int, int], kwargs: dict[str, Any]) -> nn.Layer:
    """The network `ppcls.arch.backbone.<architecture>(…)`, its weights drawn as PaddleClas does.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. `size` is (H, W): networks with position embeddings, such
    as ViT and Swin, are built for it; `check_input` finds out which H and W fit. Errors: ConfigError if PaddleClas is
    not installed or has no such network, and for unknown arguments.
    """
    refuse(kwargs, CLASSES + SIZES)
    create = getattr(backbones(), architecture, None)
    if not inspect.isfunction(create):
        raise ConfigError(f"The installed PaddleClas has no network {architecture}. {INSTALL_PADDLECLAS}")
    side = size[0] if size[0] == size[1] else size
    wanted = {name: value for name, value in kwargs.items() if name != "pretrained"}
    wanted |= dict.fromkeys(CLASSES, num_classes) | dict.fromkeys(SIZES, side)
    # A few networks load weights by default, which would download them.
    wanted["pretrained"] = False
    arguments: set[str] = set(CLASSES + SIZES)
    function, direct = _with_arguments(create, wanted, arguments)
    if unknown := [name for name in kwargs if name not in arguments]:
        raise ConfigError(f"model.kwargs.{unknown[0]}: {architecture} has no such argument.")
    try:
        with _own_names():
            network = function(**direct)
            _rename(network)
            _replace_pools(network)
            _replace_patches(network)
    except (TypeError, ValueError, AssertionError, NotImplementedError, KeyError) as error:
        raise ConfigError(
            f"model.kwargs={kwargs} or data.image_size={list(size)} does not suit {architecture}: {error}"
        ) from error
    for name in AUXILIARY:
        if type(network).__name__ == "GoogLeNetDY" and hasattr(network, name):
            # A single loss would leave the auxiliary classifiers untrained.
            setattr(network, name, nn.Identity())
    kind: Any = type(network)
    network.__class__ = _logits_class(kind)
    return network


@functools.cache
def backbones() -> types.ModuleType:
    """`ppcls.arch.backbone`. Errors: ConfigError if PaddleClas is not installed or cannot be imported."""
    for problem in without_paddleclas():
        raise ConfigError(problem)
    spec = importlib.util.find_spec("paddleclas")
    assert spec is not None
    assert spec.origin is not None
    # The parent packages would import OpenCV, faiss, VisualDL and PaddleClas' own trainer.
    for name in ("ppcls", "ppcls.arch"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")))]
        sys.modules.setdefault(name, package)
    try:
        module = importlib.import_module("ppcls.arch.backbone")
        logger: Any = importlib.import_module("ppcls.utils.logger")
    except Exception as error:
        raise ConfigError(
            f"PaddleClas cannot be imported: {type(error).__name__}: {error}. {INSTALL_PADDLECLAS}"
        ) from error
    # Some networks use a logger that only the trainer creates, and which would write to the standard output.
    logger._logger = logging.getLogger("ppcls")
    return module


def _with_arguments(
    create: Callable[..., Any], wanted: dict[str, Any], arguments: set[str]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A constructor of PaddleClas for the wanted network, and the arguments to call it with.

    Arguments that the function itself lacks are passed to the class that it calls, in place of its own: most sizes are
    hard-coded in the functions. Some functions look up addresses of weights that do not exist. `arguments` receives the
    names of all arguments.
    """
    world = dict(create.__globals__)
    world["MODEL_URLS"] = collections.defaultdict(str, world.get("MODEL_URLS", {}))
    direct = wanted.keys() & _named(create)
    arguments |= _named(create)
    rest = {name: value for name, value in wanted.items() if name not in direct}
    for name in create.__code__.co_names:
        match world.get(name):
            case type() as kind if issubclass(kind, nn.Layer) and set(CLASSES) & (taken := _taken(kind)):
                arguments |= taken
                chosen = {name: value for name, value in rest.items() if name in taken}
                world[name] = functools.partial(_with, kind, chosen)
            case types.FunctionType() as helper if helper.__module__ == create.__module__ and helper is not create:
                inner, more = _with_arguments(helper, rest, arguments)
                world[name] = functools.partial(_with, inner, more)
    copy = types.FunctionType(create.__code__, world, create.__name__, create.__defaults__, create.__closure__)
    copy.__kwdefaults__ = create.__kwdefaults__
    return copy, {name: wanted[name] for name in direct}


def _named(function: Callable[..., Any]) -> set[str]:
    """The named arguments of a function."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)} - {"self"}


def _taken(kind: type) -> set[str]:
    """The arguments of a class and of its base classes, as far as it passes unknown ones on."""
    names: set[str] = set()
    for base in kind.__mro__[: kind.__mro__.index(nn.Layer)]:
        if "__init__" in vars(base):
            create = vars(base)["__init__"]
            names |= _named(create)
            if all(one.kind != one.VAR_KEYWORD for one in inspect.signature(create).parameters.values()):
                break
    return names


def _with(function: Callable[..., Any], chosen: dict[str, Any], *args: Any, **named: Any) -> Any:
    return function(*args, **named | chosen)


@contextlib.contextmanager
def _own_names() -> Iterator[None]:
    """Within the context parameters may reuse names.

    PaddleClas hard-codes some, of which Paddle allows one a process.
    """
    generator, used = unique_name.switch()
    unique_name.switch(generator)
    try:
        yield
    finally:
        unique_name.switch(generator, used)


def _rename(network: nn.Layer) -> None:
    """Give parameters unique names: optimizers identify them by name."""
    for parameter in network.parameters():
        parameter.name = unique_name.generate(parameter.name)


def _replace_pools(network: nn.Layer) -> None:
    """Make PaddleClas' `AdaptiveAvgPool2D` Paddle's, which it equals except on NPUs, so that the kernels know it."""
    for layer in network.sublayers():
        is_own = type(layer).__module__.endswith("custom_devices_layers") and type(layer).__base__ is _POOL
        if is_own and getattr(layer, "device", None) != "npu":
            layer.__class__ = _POOL


def _replace_patches(network: nn.Layer) -> None:
    """Let MobileViTV2 cut maps by reshaping them: Paddle cannot trace `fold`."""
    for layer in network.sublayers():
        if type(layer).__name__ == "MobileViTV2Block":
            kind: Any = type(layer)
            layer.__class__ = _reshape_class(kind)


@functools.cache
def _reshape_class(kind: type[nn.Layer]) -> type[nn.Layer]:
    """A subclass of `kind` that reshapes maps to patches, and patches to maps."""
    return type(kind.__name__, (kind,), {"unfolding": _to_patches, "folding": _to_maps})


def _to_patches(self: Any, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Maps [N, C, H, W] as patches [N, C, pixels of a patch, patches], which do not overlap, and (H, W)."""
    channels, height, width = maps.shape[1:]
    rows, columns = self.patch_h, self.patch_w
    cut = maps.reshape([-1, channels, height // rows, rows, width // columns, columns]).transpose([0, 1, 3, 5, 2, 4])
    number = (height // rows) * (width // columns)
    return cut.reshape([-1, channels, rows * columns, number]), (height, width)


def _to_maps(self: Any, patches: Tensor, output_size: tuple[int, int]) -> Tensor:
    """The inverse of `_to_patches`."""
    channels, (height, width), rows, columns = patches.shape[1], output_size, self.patch_h, self.patch_w
    cut = patches.reshape([-1, channels, rows, columns, height // rows, width // columns])
    return cut.transpose([0, 1, 4, 2, 5, 3]).reshape([-1, channels, height, width])


@functools.cache
def _logits_class(kind: type[nn.Layer]) -> type[nn.Layer]:
    """A subclass of `kind` whose forward pass returns logits alone."""
    return type(kind.__name__, (kind,), {"forward": _logits, "original_forward": kind.forward})


def _logits(self: Any, images: Tensor) -> Tensor:
    # A method, because when Paddle traces other functions it does not translate their code, and would record the number
    # of images as a constant.
    output = self.original_forward(images)
    if isinstance(output, dict):
        output = output["logits"]
    if isinstance(output, (list, tuple)):
        # A distilled ViT has two heads and averages them in evaluation; other networks have auxiliary classifiers.
        output = (output[0] + output[1]) / 2 if "Distilled" in type(self).__name__ else output[0]
    return output
