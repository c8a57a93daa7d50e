"""Taps: reading the outputs of layers within a network while it computes."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from ..errors import ConfigError

#: Layer → float32 [N, C, H, W].
Features = dict[str, Tensor]
#: The output of a layer → the same as maps [N, C, H, W].
Reader = Callable[[Tensor], Tensor]


class Tap(NamedTuple):
    """A layer whose output is read."""

    name: str
    """As in `network.named_sublayers()`."""
    layer: nn.Layer
    reader: Reader


@contextlib.contextmanager
def tapped(taps: Iterable[Tap]) -> Iterator[Features]:
    """Within the context the outputs of some layers are collected as features, in the order of the calls."""
    features: Features = {}

    def keeping(tap: Tap) -> Callable[..., None]:
        def keep(_layer: nn.Layer, _inputs: object, output: Tensor) -> None:
            maps = tap.reader(output)
            # Squares overflow half precision.
            features[tap.name] = maps if maps.dtype == paddle.float32 else maps.astype("float32")

        return keep

    hooks = [tap.layer.register_forward_post_hook(keeping(tap)) for tap in taps]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


def check_names(network: nn.Layer, owner: str, names: Iterable[str], key: str, remedy: str = "") -> None:
    """Errors: ConfigError for a layer that a network does not have; `owner` and `key` name both in messages."""
    valid = [name for name, _ in network.named_sublayers()]
    for name in names:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
            nearest = f" Nearest: {', '.join(close)}." if close else ""
            own = ", ".join(child for child, _ in network.named_children())
            raise ConfigError(
                f"{key}: {owner} ({type(network).__name__}) has no layer '{name}'.{nearest} Its own are {own}; others "
                f"are within these.{remedy}"
            )
