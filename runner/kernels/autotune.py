"""Which convolutions are computed by Paddle after all: measured once per shape and machine, and kept."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F

from .. import files
from ..errors import ForeignPath
from ..files.digests import text_digest
from ..processes import locked
from . import build, functions, native
from .native import Geometry
from .switch import Switch

log = logging.getLogger("runner")
#: Seconds to wait for another process that measures: none any more once that was in vain.
_patience = [60.0]
#: Of the file of measurements; one with more is not from here, and begun again.
MOST_BYTES = 1 << 22
#: Paddle goes from image to image, so a few say enough.
MOST_IMAGES = 32
#: Where one is so many times as fast as the other, measuring once is enough.
CLEAR = 2.0
#: By how much Paddle has to be faster: what is measured varies by some per cent.
MARGIN = 1.1


@dataclass(frozen=True)
class Measured:
    """Forward pass and gradients of one convolution."""

    geometry: Geometry
    enters: bool
    """Whether its input has the batch first, as Paddle's own has."""
    leaves: bool
    """Whether its output has."""
    paddle_ms: float
    kernels_ms: float

    @property
    def paddle_is_faster(self) -> bool:
        """Whether Paddle was faster, and not by chance."""
        return MARGIN * self.paddle_ms < self.kernels_ms


#: On, the kernels compute every shape: for what is computed once, measuring takes longer.
autotuning_off = Switch()


def paddle_is_faster(geometry: Geometry, enters: bool, leaves: bool) -> bool:
    """Whether Paddle computes a convolution faster than the kernels, changes of layout included."""
    if autotuning_off.on:
        return False
    return _measured(_with_few_images(geometry), enters, leaves).paddle_is_faster


@functools.cache
def _with_few_images(geometry: Geometry) -> Geometry:
    """The shape that stands for one with any number of images above it."""
    return replace(geometry, batch=min(MOST_IMAGES, 1 << (geometry.batch.bit_length() - 1)))


@functools.cache
def _measured(geometry: Geometry, enters: bool, leaves: bool) -> Measured:
    """What the file says, or what is measured and written there now.

    Processes wait for each other: were two to measure the same shape, one might choose otherwise than the other, and a
    resumed run would not be the same bit for bit.
    """
    shape = (geometry, enters, leaves)
    if measured := _known().get(shape):
        return measured
    # A folder that cannot be written, or that somebody else has locked, costs the measurement once a process.
    with contextlib.suppress(OSError, ForeignPath), locked(_file(), _patience[0], _tell) as descriptor:
        if descriptor is None:
            _patience[0] = 0.0
            return measure(*shape)
        if measured := _known().get(shape):
            return measured
        measured = measure(*shape)
        _append(descriptor, measured)
        return measured
    return measure(*shape)


def _tell() -> None:
    log.warning("Waiting for another process that measures convolutions. Which one: fuser %s", _file())


def _append(descriptor: int, measured: Measured) -> None:
    """Add a line to an open file, behind whatever is there. Errors: OSError."""
    if (size := os.fstat(descriptor).st_size) > MOST_BYTES:
        os.ftruncate(descriptor, size := 0)
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    text = json.dumps(asdict(measured))
    os.pwrite(descriptor, b"\n" * torn + f"{text_digest(text)} {text}\n".encode(), size)


def all_measured() -> list[Measured]:
    """Everything that was measured on this machine with as many threads as this process has."""
    return list(_known().values())


def _file() -> Path:
    return files.cache_folder() / f"kernels-{build.key()}.{native.kernels().threads()}-threads.jsonl"


def _known() -> dict[tuple[Geometry, bool, bool], Measured]:
    """What the file says now."""
    with contextlib.suppress(OSError):
        file = _file()
        if file.is_file():
            return _read(file, file.stat().st_size)
    return {}


@functools.lru_cache(maxsize=1)
def _read(file: Path, _size: int) -> dict[tuple[Geometry, bool, bool], Measured]:
    """What a file of that size says. Errors: OSError."""
    measurements: dict[tuple[Geometry, bool, bool], Measured] = {}
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream.read(MOST_BYTES).splitlines():
            # Two processes may have measured the same, and a full disk may have cut a line.
            if measured := _parsed(line):
                measurements.setdefault((measured.geometry, measured.enters, measured.leaves), measured)
    return measurements


def _parsed(line: str) -> Measured | None:
    """What a line says that is as it was written."""
    digest, _, text = line.partition(" ")
    if text_digest(text) == digest:
        # It may have been written by another version.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            content = json.loads(text)
            shape = {key: _frozen(value) for key, value in content.pop("geometry").items()}
            return Measured(Geometry(**shape), **content)
    return None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def measure(geometry: Geometry, enters: bool, leaves: bool) -> Measured:
    """Time both ways on random numbers that come from outside of Paddle's generator."""
    g = geometry
    x = _numbers(g.batch, g.channels, g.height, g.width)
    weight = _numbers(g.filters, g.channels // g.groups, *g.kernel)
    images = x if enters else x.transpose([1, 2, 3, 0]).contiguous()
    images.stop_gradient = weight.stop_gradient = False

    def by_paddle() -> paddle.Tensor:
        own = images if enters else functions.ToBatchFirst.apply(images)
        y = F.conv2d(own, weight, None, g.stride, g.padding_of_paddle, g.dilation, g.groups)
        return y if leaves else functions.ToBatchLast.apply(y)

    def by_kernels() -> paddle.Tensor:
        own = functions.ToBatchLast.apply(images) if enters else images
        y = functions.Convolution.apply(own, weight, None, geometry)
        return functions.ToBatchFirst.apply(y) if leaves else y

    with paddle.enable_grad():
        _seconds(by_kernels)
        ours, theirs = _seconds(by_kernels), _seconds(by_paddle)
        # A moment that another program took decides nothing.
        if ours > theirs or theirs < CLEAR * ours:
            for _ in range(5):
                ours, theirs = min(ours, _seconds(by_kernels)), min(theirs, _seconds(by_paddle))
    return Measured(geometry, enters, leaves, round(1e3 * theirs, 4), round(1e3 * ours, 4))


def _numbers(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def _seconds(compute: Callable[[], paddle.Tensor]) -> float:
    began = time.perf_counter()
    compute().sum().backward()
    return time.perf_counter() - began
