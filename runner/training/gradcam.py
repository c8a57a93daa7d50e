"""Grad-CAM: where in an image the evidence for a class is (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ..errors import ConfigError
from ..kernels import autotune, layers
from ..models.input_check import preserved
from ..models.taps import check_names
from .evaluation import untouched

#: Rows and columns that a map should have: a smaller one says little more than that the class is somewhere in the
#: image.
LEAST_SIDE = 4
#: Layers whose [N, a, b, c] are not feature maps: attention weights, or channels-last maps.
NO_MAPS = (nn.Dropout, nn.Softmax, nn.Identity, nn.LayerNorm, nn.Linear, nn.GELU)
#: Most tokens before those of the image: the class token and the distillation token.
MOST_CLASS_TOKENS = 2
#: Fraction of the difference between two images' logits that rounding may account for.
ROUNDING = 1e-3
#: Most images that a network is tried with.
MOST = 3
#: In place of a class: no map is wanted.
NONE = -1


@dataclass(frozen=True)
class Place:
    """Where in a network the map is taken: the output of a layer, or its input."""

    layer: str
    """As in `network.named_sublayers()`."""
    is_input: bool
    """Whether it is the layer's input: the result of an operation between layers has no other name."""
    channels: int
    height: int
    width: int
    tokens: int | None = None
    """None for maps [N, C, H, W]; for [N, tokens + H·W, C] the number of tokens before those of the image."""
    batch_last: bool = False
    """Whether accelerated layers have the maps as [C, H, W, N]."""

    def __str__(self) -> str:
        kind = "" if self.tokens is None else " tokens"
        return f"{'input' if self.is_input else 'output'} of {self.layer}, {self.height}×{self.width}{kind}"

    def as_maps(self, values: np.ndarray) -> np.ndarray:
        """The values there, as [N, C, H, W]."""
        if self.tokens is None:
            return values.transpose(3, 0, 1, 2) if self.batch_last else values
        return values[:, self.tokens :].reshape(-1, self.height, self.width, self.channels).transpose(0, 3, 1, 2)


def find(network: nn.Layer, input_shape: tuple[int, int, int], layer: str | None = None) -> Place:
    """The last feature map through which everything that decides the logits passes, or the one that `layer` gives.

    It is [N, C, H, W] of at least 4×4, or if none is that large, of several pixels. Transformers have tokens of image
    patches, all of which take part in the logits; after the last attention only the class token may. input_shape:
    [C, H, W] of the images. The network is afterwards as before. Errors: ConfigError for a layer that does not exist or
    that gives no map, and for a network without any.
    """
    if layer is not None:
        check_names(network, "the network", [layer], "--layer")
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((MOST, *input_shape), dtype=np.float32))
    with preserved(network), autotune.autotuning_off():
        network.eval()
        places = _places(network, images[:2])
        with paddle.no_grad():
            plain = network(images).numpy()
        if layer is not None:
            own = [place for _, place in places if place.layer == layer and not place.is_input]
            if not own:
                raise ConfigError(
                    f"--layer {layer}: it gives no map of several pixels, or is called several times a pass. Name a "
                    "convolution, or a block of them."
                )
            return _tried(network, own[0], images, plain)[0]
        last_first = _distinct(places)[::-1]
        for place in sorted(last_first, key=lambda place: min(place.height, place.width) < LEAST_SIDE):
            place, decides = _tried(network, place, images, plain)
            if decides and _reaches_logits(network, place, images):
                return place
    size = f"{input_shape[1]}×{input_shape[2]}"
    raise ConfigError(
        f"{type(network).__name__} has no map to explain: for images of {size} pixels no single layer's output "
        "([N, C, H, W] of several pixels, or tokens of image patches) decides the logits alone. --layer NAME chooses "
        "one that decides a part of them."
    )


def grad_cam(network: nn.Layer, place: Place, images: Tensor, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class activation maps, float32 [N, M, H, W], and the logits, float32 [N, K].

    images: float32 [N, C, H, W]; classes: int64 [N, M], each with M classes to look for, or `NONE`, whose map is zero.
    A map is ReLU(Σ_k α_k·A_k), where A_k are the channels at the place and α_k is the mean over pixels of the gradient
    of the class's logit with respect to A_k. Runs in eval mode; weights, gradients, buffers, modes and random state are
    afterwards as before.
    """
    maps = np.zeros((*classes.shape, place.height, place.width), dtype=np.float32)
    with untouched(network), autotune.autotuning_off(), _leaf(network, place) as leaves:
        logits = network(images).astype("float32")
        [leaf] = leaves
        values = place.as_maps(leaf.numpy())
        for number in range(classes.shape[1]):
            gradient = place.as_maps(_gradient(logits, leaf, classes[:, number]))
            weights = gradient.mean(axis=(2, 3), keepdims=True)
            maps[:, number] = np.maximum(0, (weights * values).sum(axis=1))
    return maps, logits.numpy()


def _gradient(logits: Tensor, leaf: Tensor, classes: np.ndarray) -> np.ndarray:
    """Gradient of each image's logit of its class; no logit depends on the map of another image."""
    wanted = np.zeros(logits.shape, dtype=np.float32)
    rows = np.flatnonzero(classes != NONE)
    wanted[rows, classes[rows]] = 1
    [gradient] = paddle.grad([(logits * paddle.to_tensor(wanted)).sum()], [leaf], retain_graph=True, allow_unused=True)
    return np.zeros(leaf.shape, dtype=np.float32) if gradient is None else gradient.astype("float32").numpy()


@contextlib.contextmanager
def _replaced(network: nn.Layer, place: Place, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the context the network continues with `change` applied to the values at the place."""
    layer = dict(network.named_sublayers())[place.layer]
    if place.is_input:
        hook = layer.register_forward_pre_hook(lambda _layer, inputs: (change(inputs[0]), *inputs[1:]))
    else:
        hook = layer.register_forward_post_hook(lambda _layer, _inputs, output: change(output))
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _leaf(network: nn.Layer, place: Place) -> Iterator[list[Tensor]]:
    """Within the context the values at the place are kept, and gradients are recorded only from there on."""
    leaves: list[Tensor] = []
    # What records ends before what does not: each gives back the mode that it has met.
    with paddle.no_grad(), contextlib.ExitStack() as recording:

        def begin(values: Tensor) -> Tensor:
            recording.enter_context(paddle.enable_grad())
            leaf = values.detach()
            leaf.stop_gradient = False
            leaves.append(leaf)
            return leaf

        with _replaced(network, place, begin):
            yield leaves


def _tried(network: nn.Layer, place: Place, images: Tensor, plain: np.ndarray) -> tuple[Place, bool]:
    """A place with its layout, and whether everything that decides the logits passes through it.

    If so, swapping the maps of two images there swaps their logits; `plain` are the logits of the images.
    """
    # A number of images that differs from the channels, so that the first axis tells whether it is the batch.
    count = MOST if place.channels == 2 else 2
    is_last = False

    def exchange(values: Tensor) -> Tensor:
        nonlocal is_last
        is_last = place.tokens is None and values.shape[0] != count
        return values.roll(1, axis=3 if is_last else 0)

    with paddle.no_grad(), _replaced(network, place, exchange):
        exchanged = network(images[:count]).numpy()
    wanted = np.roll(plain[:count], 1, axis=0)
    error, difference = np.abs(exchanged - wanted).max(), np.abs(wanted - plain[:count]).max()
    return replace(place, batch_last=is_last), bool(error <= ROUNDING * difference)


def _reaches_logits(network: nn.Layer, place: Place, images: Tensor) -> bool:
    """Whether every image token takes part in the logits."""
    if place.tokens is None:
        return True
    with _leaf(network, place) as leaves:
        logits = network(images)
        [leaf] = leaves
        gradient = place.as_maps(_gradient(logits, leaf, np.zeros(len(images), dtype=np.int64)))
    return bool(np.abs(gradient).sum(axis=1).all())


def _places(network: nn.Layer, images: Tensor) -> list[tuple[int, Place]]:
    """(id of the value, place) of all maps and tokens in the order they are computed, of layers called exactly once."""
    seen: list[tuple[str, bool, Any]] = []
    calls: Counter[str] = Counter()

    def before(name: str) -> Callable[..., None]:
        def note(_layer: nn.Layer, inputs: tuple[Any, ...]) -> None:
            calls[name] += 1
            seen.append((name, True, inputs[0] if inputs else None))

        return note

    def after(name: str) -> Callable[..., None]:
        return lambda _layer, _inputs, output: seen.append((name, False, output))

    named = dict(network.named_sublayers())
    hooks = [layer.register_forward_pre_hook(before(name)) for name, layer in named.items()]
    hooks += [layer.register_forward_post_hook(after(name)) for name, layer in named.items()]
    try:
        with layers.stock(), paddle.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    candidates = (
        (id(value), _place(name, is_input, value, named[name], images.shape)) for name, is_input, value in seen
    )
    # `seen` keeps the values alive, so that no two of them share an id.
    return [(number, place) for number, place in candidates if place and calls[place.layer] == 1]


def _distinct(places: Iterable[tuple[int, Place]]) -> list[Place]:
    """Each value once: the name of a whole block says more than that of a layer within or after it."""
    by_value: dict[int, Place] = {}
    for number, place in places:
        earlier = by_value.pop(number, place)
        by_value[number] = min(earlier, place, key=lambda one: (one.is_input, len(one.layer)))
    return [*by_value.values()]


def _place(name: str, is_input: bool, value: Any, layer: nn.Layer, images: list[int]) -> Place | None:
    """The place of a layer's input or output for two images, if that is maps or tokens."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape[0] != images[0]:
        return None
    match value.shape:
        case [_, channels, height, width] if height * width > 1 and not isinstance(layer, NO_MAPS):
            # The images themselves are not a feature map.
            return None if value.shape == images else Place(name, is_input, channels, height, width)
        case [_, count, channels]:
            for tokens in range(MOST_CLASS_TOKENS + 1):
                if grid := _grid(count - tokens, images[2] / images[3]):
                    return Place(name, is_input, channels, *grid, tokens)
    return None


def _grid(count: int, ratio: float) -> tuple[int, int] | None:
    """Rows and columns of `count` patches of an image with this ratio of height to width."""
    height = round((max(0, count) * ratio) ** 0.5)
    if height < 2 or count % height or abs(height / (count // height) - ratio) > 1e-6:
        return None
    return height, count // height
