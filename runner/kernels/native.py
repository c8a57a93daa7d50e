"""The compiled kernels as Python functions of addresses. The shapes of tensors are documented in `src`."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

from . import build

#: Activations, alone or in the same pass as a normalisation, in the order of `Activation` in src/activation.h.
ACTIVATIONS = ("none", "relu", "hardswish", "relu6", "swish")
#: Instead of the position of a maximum, stored in a byte, if there is none; as in src/maps.cc.
NOWHERE = 255
#: Results of functions that can fail, in the order of `Outcome` in src/boundary.h.
OUTCOMES = ("done", "no memory", "failed")
#: Shapes whose derived values are cached; the largest networks have some hundred, for each batch size.
MOST_PLANS = 1024

Size2 = tuple[int, ...]

_POINTER, _INDEX, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIZES = [_INDEX, _INDEX, _INDEX]
#: Function → types of its arguments.
SIGNATURES = {
    "use_sgemm": [_POINTER],
    "linear_forward": [*_SIZES, *[_POINTER] * 4],
    "linear_gradient": [*_SIZES, *[_POINTER] * 6],
    "threads": [],
    "failure": [],
    "new_plan": [_POINTER, _POINTER],
    "free_plan": [_POINTER],
    "convolution_forward": [_POINTER] * 5,
    "convolution_input_gradient": [_POINTER] * 4,
    "convolution_weight_gradient": [_POINTER] * 5,
    "depthwise_forward": [_POINTER] * 5,
    "depthwise_input_gradient": [_POINTER] * 4,
    "depthwise_weight_gradient": [_POINTER] * 5,
    "normalize_batch": [_INDEX, _INDEX, *[_POINTER] * 3, _FLOAT, _FLOAT, _INT, *[_POINTER] * 6],
    "normalize_running": [_INDEX, _INDEX, *[_POINTER] * 3, _FLOAT, _INT, *[_POINTER] * 5],
    "normalize_gradient": [_INDEX, _INDEX, *[_POINTER] * 6, _INT, _POINTER, _INT, *[_POINTER] * 4],
    "layer_norm_forward": [_INDEX, _INDEX, *[_POINTER] * 3, _FLOAT, _POINTER, _POINTER],
    "layer_norm_gradient": [_INDEX, _INDEX, *[_POINTER] * 8],
    "activation_forward": [_INDEX, _INT, *[_POINTER] * 2],
    "activation_gradient": [_INDEX, _INT, *[_POINTER] * 3],
    "gelu_forward": [_INDEX, _POINTER, _POINTER],
    "gelu_gradient": [_INDEX, *[_POINTER] * 3],
    "transpose": [_INDEX, _INDEX, _POINTER, _POINTER],
    "mean_pool_forward": [*_SIZES, _POINTER, _POINTER],
    "mean_pool_gradient": [*_SIZES, _POINTER, _POINTER],
    "gate_forward": [*_SIZES, *[_POINTER] * 3],
    "gate_gradient": [*_SIZES, *[_POINTER] * 5],
    "max_pool_forward": [_POINTER] * 4,
    "max_pool_gradient": [_POINTER] * 4,
    "fake_quantize": [_INDEX, _POINTER, _INT, _FLOAT, _FLOAT, *[_POINTER] * 4],
    "clip_forward": [_INDEX, _POINTER, _FLOAT, _POINTER],
    "clip_gradient": [_INDEX, _POINTER, _FLOAT, _POINTER, _POINTER],
    "gather": [_INDEX, *[_POINTER] * 3],
    "scatter": [_INDEX, *[_POINTER] * 3, _FLOAT],
    "meet": [_POINTER, _INT, _INT, ctypes.c_uint32, _INDEX],
    "average": [_INDEX, *[_POINTER] * 3, _INDEX, _INT, _INT, _FLOAT],
    "hits": [*_SIZES, *[_POINTER] * 3],
    "adamw": [_INDEX, _POINTER, *[_FLOAT] * 4],
    "resample": [*_SIZES, _POINTER, *[_FLOAT] * 4, _INDEX, _INDEX, _POINTER],
    "augment": [_INDEX, _INDEX, *_SIZES, _POINTER, _POINTER, _INDEX, _POINTER, _POINTER, _INDEX, *[_POINTER] * 5],
    "mix": [*_SIZES, _INDEX, *[_POINTER] * 5],
    "change": [*[_INDEX] * 7, *[_POINTER] * 4, _INDEX, _POINTER, _POINTER, _INDEX, *[_POINTER] * 6],
}
_RESULTS = {"threads": _INT, "failure": ctypes.c_char_p, "meet": _INT, "hits": _INDEX, "clip_gradient": _FLOAT}
#: Functions that return an outcome: those that allocate memory.
_FALLIBLE = (
    "new_plan", "convolution_forward", "convolution_input_gradient", "convolution_weight_gradient",
    "linear_forward", "linear_gradient", "depthwise_weight_gradient", "average", "adamw", "resample", "change",
)  # fmt: skip
_RESULTS |= dict.fromkeys(_FALLIBLE, _INT)


@functools.cache
def kernels() -> ctypes.CDLL:
    """The library with its types declared.

    Errors: Unavailable. Functions that allocate raise MemoryError if they cannot, and RuntimeError for sizes beyond
    their limits.
    """
    library = build.library()
    for name, arguments in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _RESULTS.get(name)
        if name in _FALLIBLE:
            function.errcheck = _raise_failure
    library.use_sgemm(build.sgemm())
    return library


def _raise_failure(outcome: int, function: Any, _arguments: tuple[Any, ...]) -> None:
    if not outcome:
        return
    if OUTCOMES[outcome] == "no memory":
        raise MemoryError(f"{function.__name__} of the compiled kernels ran out of memory: use a smaller batch")
    raise RuntimeError(
        f"{function.__name__} of the compiled kernels has no room for {kernels().failure().decode()}: "
        "use a smaller batch or smaller images, or train.accelerate=off"
    )


@functools.cache
def unavailable() -> str:
    """Why there are no compiled kernels on this machine; empty if there are some."""
    try:
        kernels()
    except build.Unavailable as error:
        return str(error)
    return ""


def output_size(
    kernel: Size2, stride: Size2, padding: Size2, dilation: Size2, height: int, width: int
) -> tuple[int, int]:
    """Height and width of the result of a convolution or pooling."""
    rows, columns = (
        (side + 2 * pad - spread * (size - 1) - 1) // step + 1
        for side, size, step, pad, spread in zip((height, width), kernel, stride, padding, dilation, strict=True)
    )
    return rows, columns


@dataclass(frozen=True)
class Geometry:
    """The shape of a convolution or pooling; the fields of `Geometry` in src/plan.h."""

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    more: tuple[int, int] = (0, 0)
    """Extra padding below and right of the map compared with above and left."""

    def __post_init__(self) -> None:
        if self.batch < 1 or min(self.output) < 1:
            raise ValueError(f"nothing is left of maps of {self.height}x{self.width} pixels: {self}")

    @functools.cached_property
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.height + self.more[0], self.width + self.more[1]
        return output_size(self.kernel, self.stride, self.padding, self.dilation, height, width)

    @functools.cached_property
    def padding_of_paddle(self) -> list[int]:
        """[above, below, left, right] of the map."""
        (top, left), (below, right) = self.padding, self.more
        return [top, top + below, left, left + right]

    @functools.cached_property
    def output_shape(self) -> tuple[int, int, int, int]:
        """The output's batch-last shape."""
        return (self.filters, *self.output, self.batch)

    @functools.cached_property
    def is_depthwise(self) -> bool:
        """Whether every channel has a single filter of its own."""
        return self.groups == self.channels == self.filters


class Plan:
    """What the kernels derive from a shape, passed to them as an argument; freed with its last reference."""

    def __init__(self, geometry: Geometry) -> None:
        """Errors: MemoryError; RuntimeError for sizes beyond the kernels' limits."""
        g = geometry
        numbers = [
            g.batch, g.channels, g.height, g.width, g.filters, *g.kernel, *g.stride, *g.padding, *g.dilation,
            *g.output, g.groups,
        ]  # fmt: skip
        #: The handle that ctypes passes.
        self._as_parameter_ = ctypes.c_void_p()
        kernels().new_plan((ctypes.c_int64 * len(numbers))(*numbers), ctypes.byref(self._as_parameter_))
        self._free = kernels().free_plan

    def __del__(self) -> None:
        # `_free` does not exist if construction failed.
        if free := self.__dict__.get("_free"):
            free(self)


@functools.lru_cache(maxsize=MOST_PLANS)
def plan(geometry: Geometry) -> Plan:
    """The cached plan of a shape, one of the last `MOST_PLANS`; callers keep it alive. Errors: as `Plan`."""
    return Plan(geometry)
