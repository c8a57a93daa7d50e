"""The networks of PaddleClas by name: `ppcls.arch.backbone` alone, without its trainer.

No other file knows of its quirks. Tried with PaddleClas 2.6.0 on Paddle 3.3.1.
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

from ..config.networks import INSTALL_PADDLECLAS
from ..errors import ConfigError
from .vision import AUXILIARY, refuse

#: Arguments that are this package's business → what says it instead.
OWN = ("class_num", "img_size", "image_size")


def build(architecture: str, num_classes: int, size: tuple[int, int], kwargs: dict[str, Any]) -> nn.Layer:
    """The network `ppcls.arch.backbone.<architecture>(…)`, its weights drawn as PaddleClas does.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. `size` is (H, W): networks with an embedding of places,
    such as ViT and Swin, are built for it; which H and W fit, `check_input` finds out. Errors: ConfigError where
    PaddleClas is not installed or has no such network, and for arguments that it does not have.
    """
    refuse(kwargs, OWN)
    create = getattr(backbones(), architecture, None)
    if not inspect.isfunction(create):
        raise ConfigError(f"The installed PaddleClas has no network {architecture}. {INSTALL_PADDLECLAS}")
    arguments = {name: value for name, value in kwargs.items() if name != "pretrained"}
    if "pretrained" in inspect.signature(create).parameters:
        # Of a few networks it is on by default, which would download weights.
        arguments["pretrained"] = False
    try:
        with _own_names():
            network = _create(_sized(create, size), num_classes, arguments)
            _rename(network)
    except (TypeError, ValueError, AssertionError, NotImplementedError, KeyError) as error:
        raise ConfigError(
            f"model.kwargs={kwargs} or data.image_size={list(size)} does not suit {architecture}: {error}"
        ) from error
    for name in AUXILIARY:
        if type(network).__name__ == "GoogLeNetDY" and hasattr(network, name):
            # The auxiliary classifiers, which a single loss would leave untrained.
            setattr(network, name, nn.Identity())
    network.__class__ = _giving_logits(type(network))
    return network


@functools.cache
def backbones() -> types.ModuleType:
    """`ppcls.arch.backbone`. Errors: ConfigError where PaddleClas is not installed or cannot be imported."""
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or not spec.origin:
        raise ConfigError(f"model=paddleclas/… needs PaddleClas, which is not installed. {INSTALL_PADDLECLAS}")
    # The packages above would import OpenCV, faiss, VisualDL and PaddleClas' own trainer.
    for name in ("ppcls", "ppcls.arch"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")))]
        sys.modules.setdefault(name, package)
    try:
        module = importlib.import_module("ppcls.arch.backbone")
        logger = importlib.import_module("ppcls.utils.logger")
    except Exception as error:
        raise ConfigError(
            f"PaddleClas cannot be imported: {type(error).__name__}: {error}. {INSTALL_PADDLECLAS}"
        ) from error
    # Some networks write to a logger that only the trainer makes, and it would write to the standard output.
    logger._logger = logging.getLogger("ppcls")
    return module


def _create(create: Callable[..., nn.Layer], num_classes: int, arguments: dict[str, Any]) -> nn.Layer:
    try:
        return create(**arguments, class_num=num_classes)
    except TypeError as error:
        if "'class_num'" not in str(error):
            raise
    return create(**arguments, num_classes=num_classes)


def _sized(create: Callable[..., nn.Layer], size: tuple[int, int]) -> Callable[..., nn.Layer]:
    """The function, where the networks it makes are built for images of this size and not one of its own.

    Most have the size in their bodies, and some look for addresses of weights that there are not.
    """
    side = size[0] if size[0] == size[1] else size
    world = dict(create.__globals__)
    world["MODEL_URLS"] = collections.defaultdict(str, world.get("MODEL_URLS", {}))
    for name in create.__code__.co_names:
        match world.get(name):
            case type() as kind:
                parameters = inspect.signature(kind).parameters
                for key in {"img_size", "image_size"} & parameters.keys():
                    world[name] = functools.partial(_with, kind, key, side)
            case types.FunctionType() as helper if helper.__module__ == create.__module__ and helper is not create:
                world[name] = _sized(helper, size)
    copy = types.FunctionType(create.__code__, world, create.__name__, create.__defaults__, create.__closure__)
    copy.__kwdefaults__ = create.__kwdefaults__
    return copy


def _with(kind: Callable[..., Any], key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
    return kind(*args, **kwargs | {key: value})


@contextlib.contextmanager
def _own_names() -> Iterator[None]:
    """Within the context parameters may be called as others are: PaddleClas gives some fixed names, once a process."""
    generator, used = unique_name.switch()
    unique_name.switch(generator)
    try:
        yield
    finally:
        unique_name.switch(generator, used)


def _rename(network: nn.Layer) -> None:
    """Give parameters names that no other network's have: optimizers go by them."""
    for parameter in network.parameters():
        parameter.name = unique_name.generate(parameter.name)


@functools.cache
def _giving_logits(kind: type[nn.Layer]) -> type[nn.Layer]:
    """The class of a network whose forward pass returns logits alone, whatever else that of `kind` does."""
    plain, averages = kind.forward, "Distilled" in kind.__name__

    def forward(self: nn.Layer, images: Tensor) -> Tensor:
        output = plain(self, images)
        if isinstance(output, dict):
            output = output["logits"]
        if isinstance(output, (list, tuple)):
            # A distilled ViT has two heads, whose mean it gives in evaluation; others have auxiliary classifiers.
            output = (output[0] + output[1]) / 2 if averages else output[0]
        return output

    return type(kind.__name__, (kind,), {"forward": forward})
