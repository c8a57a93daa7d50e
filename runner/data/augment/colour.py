"""Colour operations: from keys of the config to drawn operations."""

from __future__ import annotations

import numpy as np

from ... import config as cfg
from .draws import Draws, Purpose, between, orders
from .operations import Operation

#: Operations of each image: their codes, int32 [B, K], and their arguments, float32 [B, K].
Operations = tuple[np.ndarray, np.ndarray]


def jitter(augment: cfg.Augment, draws: Draws) -> Operations:
    """`brightness`, `contrast`, `saturation` and `hue` with probability `jitter`, in random order (ColorJitter)."""
    numbers = draws.uniform(Purpose.jitter, 6)
    strengths = [augment.brightness, augment.contrast, augment.saturation]
    factors = [between(column, max(0, 1 - x), 1 + x) for column, x in zip(numbers.T, strengths, strict=False)]
    values = np.stack([*factors, between(numbers[:, 3], -augment.hue, augment.hue)], axis=1)
    codes = np.array([Operation.brightness, Operation.contrast, Operation.saturation, Operation.hue])
    codes = np.where(np.array([*strengths, augment.hue]) > 0, codes, Operation.nothing)
    order = orders(numbers[:, 4], 4)
    happens = numbers[:, 5:] < augment.jitter
    return np.where(happens, codes[order], Operation.nothing), np.take_along_axis(values, order, axis=1)


def is_jittered(augment: cfg.Augment) -> bool:
    """Whether `jitter` changes anything."""
    return bool(augment.jitter and (augment.brightness or augment.contrast or augment.saturation or augment.hue))


def singles(augment: cfg.Augment, draws: Draws) -> Operations:
    """Operations with a probability of their own, in the order of the list below. New operations go to its end."""
    numbers = draws.uniform(Purpose.single, 1)[:, 0]
    sigma = between(numbers, *augment.blur_sigma)
    listed: list[tuple[float, Operation, np.ndarray | float]] = [
        (augment.grey, Operation.saturation, 0.0),
        (augment.blur, Operation.blur, sigma),
        (augment.posterize, Operation.posterize, augment.posterize_bits),
        (augment.solarize, Operation.solarize, augment.solarize_threshold),
        (augment.invert, Operation.invert, 0.0),
        (augment.sharpness, Operation.sharpness, augment.sharpness_factor),
        (augment.autocontrast, Operation.autocontrast, 0.0),
        (augment.equalize, Operation.equalize, 0.0),
    ]
    happens = draws.uniform(Purpose.single, 1 + len(listed))[:, 1:]
    on = [number for number, (probability, *_) in enumerate(listed) if probability]
    shape = (len(draws.indices), len(on))
    codes, values = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    for column, number in enumerate(on):
        probability, operation, value = listed[number]
        codes[:, column] = np.where(happens[:, number] < probability, operation, Operation.nothing)
        values[:, column] = value
    return codes, values
