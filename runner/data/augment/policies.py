"""RandAugment and TrivialAugment: operations drawn from a list, with torchvision's strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import config as cfg
from . import geometry
from .colour import Operations
from .draws import Draws, Purpose, whole
from .operations import Operation

#: The operations that a policy draws from, all equally likely. The first ones are geometric.
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOURS = ("brightness", "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize")
CHOICES = ("nothing", *MOVES, *COLOURS)
#: The largest strength; strengths are integers from 0.
STRONGEST = 30


@dataclass(frozen=True)
class Strengths:
    """The effect of each operation at the largest strength."""

    shear: float
    """Columns per row."""
    translate: tuple[float, float] | None
    """Pixels, down and to the right; None: 150/331 of the side, as for ImageNet in the paper."""
    rotate: float
    """Degrees."""
    factor: float
    """Distance from 1 of brightness, saturation, contrast and sharpness."""
    bits: int
    """Bits that posterizing removes."""


RAND = Strengths(shear=0.3, translate=None, rotate=30, factor=0.9, bits=4)
TRIVIAL = Strengths(shear=0.99, translate=(32, 32), rotate=135, factor=0.99, bits=6)


@dataclass
class Drawn:
    """What a policy has drawn for some images."""

    maps: np.ndarray
    """float64 [B, 3, 3]: all geometric operations, as one map."""
    operations: Operations


def draw(augment: cfg.Augment, draws: Draws, height: int, width: int) -> Drawn | None:
    """The operations that `augment.policy` draws; None without a policy."""
    if augment.policy is cfg.Policy.none:
        return None
    count = augment.rand_n if augment.policy is cfg.Policy.rand else 1
    numbers = draws.uniform(Purpose.policy, 3 * count).reshape(len(draws.indices), count, 3)
    choices, signs = whole(numbers[..., 0], len(CHOICES)), np.where(numbers[..., 1] < 0.5, -1.0, 1.0)
    match augment.policy:
        case cfg.Policy.rand:
            strengths = np.full(choices.shape, augment.rand_m)
            return _drawn(choices, signs, strengths, RAND, height, width)
        case cfg.Policy.trivial:
            return _drawn(choices, signs, whole(numbers[..., 2], STRONGEST + 1), TRIVIAL, height, width)


def _drawn(
    choices: np.ndarray, signs: np.ndarray, strengths: np.ndarray, most: Strengths, height: int, width: int
) -> Drawn:
    """choices, signs and strengths (0…30): [B, K]."""
    part = strengths / STRONGEST
    maps = geometry.identity(len(choices))
    for column in range(choices.shape[1]):
        maps = maps @ _moved(choices[:, column], signs[:, column] * part[:, column], most, height, width)
    factors = 1 + most.factor * signs * part
    # NumPy rounds halves as torch does.
    amounts = {
        "posterize": 8 - np.round(strengths * most.bits / STRONGEST),
        "solarize": 255 - 255 * part,
        **dict.fromkeys(("brightness", "saturation", "contrast", "sharpness"), factors),
    }
    codes, values = np.zeros(choices.shape, dtype=np.int32), np.zeros(choices.shape, dtype=np.float32)
    for name in COLOURS:
        chosen = choices == CHOICES.index(name)
        codes[chosen] = Operation[name]
        if name in amounts:
            values[chosen] = amounts[name][chosen]
    return Drawn(maps, (codes, values))


def _moved(choices: np.ndarray, amounts: np.ndarray, most: Strengths, height: int, width: int) -> np.ndarray:
    """Maps of one geometric operation an image; choices int64 [B], amounts float64 [B] in -1…1."""
    down, right = most.translate or (height * 150 / 331, width * 150 / 331)

    def of(name: str, strongest: float) -> np.ndarray:
        return np.where(choices == CHOICES.index(name), amounts * strongest, 0.0)

    maps = geometry.sheared(of("shear_x", most.shear), of("shear_y", most.shear))
    # torchvision translates by whole pixels.
    maps = maps @ geometry.shifted(np.trunc(of("translate_x", right)), np.trunc(of("translate_y", down)))
    return maps @ geometry.rotated(of("rotate", most.rotate), height, width)
