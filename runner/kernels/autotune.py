"""Choosing for each convolution between these kernels and Paddle: measured once per shape and machine, and cached."""

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
#: Seconds to wait for another process that measures; zero after one wait was in vain.
_patience = [60.0]
#: Most bytes of the file of measurements; a larger one is invalid, and replaced.
MOST_BYTES = 1 << 22
#: Paddle processes image after image, so few images are representative.
MOST_IMAGES = 32
#: If one is faster by this factor, a single measurement is enough.
CLEAR = 2.0
#: How much faster Paddle has to be: measurements vary by some per cent.
MARGIN = 1.1


@dataclass(frozen=True)
class Measured:
    """Times of a convolution's forward pass and gradients."""

    geometry: Geometry
    enters: bool
    """Whether its input is batch-first, as Paddle's own is."""
    leaves: bool
    """Whether its output is."""
    paddle_ms: float
    kernels_ms: float

    @property
    def paddle_is_faster(self) -> bool:
        """Whether Paddle was faster by more than measurement noise."""
        return MARGIN * self.paddle_ms < self.kernels_ms


#: If on, the kernels compute every shape: for a single computation, measuring would take longer.
autotuning_off = Switch()


def paddle_is_faster(geometry: Geometry, enters: bool, leaves: bool) -> bool:
    """Whether Paddle computes a convolution faster than the kernels, changes of layout included."""
    if autotuning_off.on:
        return False
    return _measured(_with_few_images(geometry), enters, leaves).paddle_is_faster


@functools.cache
def _with_few_images(geometry: Geometry) -> Geometry:
    """The shape that represents all larger batches."""
    return replace(geometry, batch=min(MOST_IMAGES, 1 << (geometry.batch.bit_length() - 1)))


@functools.cache
def _measured(geometry: Geometry, enters: bool, leaves: bool) -> Measured:
    """The measurement in the file, or a new one that is added to it.

    Processes wait for each other: if two measured the same shape, they might choose differently, and a resumed run
    would not be the same bit for bit.
    """
    shape = (geometry, enters, leaves)
    if measured := _known().get(shape):
        return measured
    # If the folder cannot be written, or the file stays locked, each process measures for itself.
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
    """Append a line to an open file. Errors: OSError."""
    if (size := os.fstat(descriptor).st_size) > MOST_BYTES:
        os.ftruncate(descriptor, size := 0)
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    text = json.dumps(asdict(measured))
    os.pwrite(descriptor, b"\n" * torn + f"{text_digest(text)} {text}\n".encode(), size)


def all_measured() -> list[Measured]:
    """All measurements on this machine with this process's number of threads."""
    return list(_known().values())


def _file() -> Path:
    return files.cache_folder() / f"kernels-{build.key()}.{native.kernels().threads()}-threads.jsonl"


def _known() -> dict[tuple[Geometry, bool, bool], Measured]:
    """The current contents of the file."""
    with contextlib.suppress(OSError):
        file = _file()
        if file.is_file():
            return _read(file, file.stat().st_size)
    return {}


@functools.lru_cache(maxsize=1)
def _read(file: Path, _size: int) -> dict[tuple[Geometry, bool, bool], Measured]:
    """The contents of a file, cached by its size. Errors: OSError."""
    measurements: dict[tuple[Geometry, bool, bool], Measured] = {}
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream.read(MOST_BYTES).splitlines():
            # Two processes may have measured the same shape, and a full disk may have cut a line.
            if measured := _parsed(line):
                measurements.setdefault((measured.geometry, measured.enters, measured.leaves), measured)
    return measurements


def _parsed(line: str) -> Measured | None:
    """The measurement in a line; None if it is not valid."""
    digest, _, text = line.partition(" ")
    if text_digest(text) == digest:
        # Another version may have written it.
        with contextlib.suppress(ValueError, TypeError, KeyError):
            content = json.loads(text)
            shape = {key: _frozen(value) for key, value in content.pop("geometry").items()}
            return Measured(Geometry(**shape), **content)
    return None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def measure(geometry: Geometry, enters: bool, leaves: bool) -> Measured:
    """Time both on random numbers, without using Paddle's generator."""
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
        # The fastest of several, so that a moment of load from another program does not decide.
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
