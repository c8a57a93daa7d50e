"""Seeding the random generators, and their state as plain data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import paddle


def seed(value: int) -> None:
    """Seed Paddle, NumPy and Python."""
    paddle.seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def state() -> dict[str, Any]:
    """The state of all three generators as JSON-safe data."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, numbers, gauss_next = random.getstate()
    return {
        "paddle": [_plain(paddle.get_rng_state()[_own()])],
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), gauss_next],
    }


def restore(saved: dict[str, Any]) -> None:
    """Bring all three generators to a state that `state` returned."""
    generators = paddle.get_rng_state()
    kind: Any = type(generators[_own()])
    device, *_ = generators[_own()].__getstate__()
    _, seed_value, offset, text = saved["paddle"][0]
    generators[_own()] = kind.__new__(kind)
    generators[_own()].__setstate__((device, seed_value, offset, list(text.encode("ascii"))))
    paddle.set_rng_state(generators)
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, numbers, gauss_next = saved["python"]
    random.setstate((version, tuple(numbers), gauss_next))


def _own() -> int:
    """The name of the generator of this process's device, `cpu` or `gpu:N`: Paddle returns those of every GPU."""
    return int(paddle.device.get_device().partition(":")[2] or 0)


def _plain(generator: Any) -> list[Any]:
    # The engine's state is decimal text, stored as one integer a character.
    device, seed_value, offset, characters = generator.__getstate__()
    return [device, seed_value, offset, bytes(characters).decode("ascii")]
