"""Affine maps: where the pixels of an augmented image are in the original.

A map is float64 [B, 3, 3] and takes (x, y, 1) in the augmented image to (x, y, 1) in the original, in pixels from the
upper left corner, so that the centre of the first pixel is (½, ½). Products are read from the original on:
`crop @ flip @ turn` crops, then flips, then rotates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ... import config as cfg
from ...images import Crop
from ...images.resampling import Box, Size
from .draws import ATTEMPTS, Draws, Purpose, between, rectangles

#: Position in an epoch → what is cut out of the whole picture there, if anything.
Crops = Callable[[int], Crop | None]


def identity(batch: int) -> np.ndarray:
    """Maps that move nothing."""
    return np.tile(np.eye(3), (batch, 1, 1))


def shifted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Translation by x to the right and y down, float64 [B]."""
    maps = identity(len(x))
    maps[:, 0, 2], maps[:, 1, 2] = -x, -y
    return maps


def flipped(columns: np.ndarray, rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Horizontal flip where `columns`, vertical flip where `rows`, bool [B]."""
    maps = identity(len(columns))
    maps[columns, 0] = [-1, 0, width]
    maps[rows, 1] = [0, -1, height]
    return maps


def rotated(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Counter-clockwise rotation around the centre."""
    maps = identity(len(degrees))
    angles = np.deg2rad(degrees)
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angles)
    maps[:, 0, 1], maps[:, 1, 0] = -np.sin(angles), np.sin(angles)
    return centred(maps, height, width)


def sheared(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """x taken from x + columns · y, and y from y + rows · x, around the upper left corner."""
    maps = identity(len(columns))
    maps[:, 0, 1], maps[:, 1, 0] = columns, rows
    return maps


def scaled(factors: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scaling around the centre."""
    maps = identity(len(factors))
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / factors
    return centred(maps, height, width)


def centred(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same maps around the centre of the image instead of its corner."""
    to, back = np.eye(3), np.eye(3)
    to[:2, 2] = width / 2, height / 2
    back[:2, 2] = -to[:2, 2]
    return to @ maps @ back


def cropped(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes of the original, int64 [B, 4] (top, left, height, width), scaled to height × width."""
    maps = identity(len(boxes))
    maps[:, 0, 0], maps[:, 1, 1] = boxes[:, 3] / width, boxes[:, 2] / height
    maps[:, 0, 2], maps[:, 1, 2] = boxes[:, 1], boxes[:, 0]
    return maps


def random_boxes(augment: cfg.Augment, draws: Draws, height: int, width: int) -> np.ndarray:
    """`crop_scale` and `crop_ratio`: random parts of the original, int64 [B, 4] (top, left, height, width).

    If no attempt fits, it is the largest central crop with an allowed ratio (torchvision's rule).
    """
    assert augment.crop_scale is not None
    numbers = draws.uniform(Purpose.crop, 2 * ATTEMPTS + 2)
    boxes, fitted = rectangles(numbers, height, width, augment.crop_scale, augment.crop_ratio, is_smaller=False)
    ratio = min(max(width / height, augment.crop_ratio[0]), augment.crop_ratio[1])
    sides = max(1, min(height, round(width / ratio))), max(1, min(width, round(height * ratio)))
    boxes[~fitted] = (height - sides[0]) // 2, (width - sides[1]) // 2, *sides
    return boxes


def random_crops(augment: cfg.Augment, draws: Draws) -> Crops:
    """The same of whole pictures, whose size is known once they are opened; `draws` in the order of the epoch."""

    def of(position: int) -> Crop:
        alone = replace(draws, indices=draws.indices[position : position + 1])

        def crop(size: Size) -> Box:
            width, height = size
            [[top, left, rows, columns]] = random_boxes(augment, alone, height, width).tolist()
            return left, top, left + columns, top + rows

        return crop

    return of


def no_crop(position: int) -> None:
    """The `Crops` of an epoch without any."""


def random_affine(augment: cfg.Augment, draws: Draws, height: int, width: int) -> np.ndarray:
    """`rotation`, `translation`, `shear` and `zoom`, in the order of torchvision's RandomAffine."""
    numbers = draws.uniform(Purpose.affine, 5)
    turn, right, down, lean = 2 * numbers[:, :4].T - 1
    lean = np.tan(np.deg2rad(augment.shear * lean))
    maps = scaled(between(numbers[:, 4], *augment.zoom), height, width)
    maps = maps @ centred(sheared(lean, np.zeros_like(lean)), height, width)
    maps = maps @ rotated(augment.rotation * turn, height, width)
    # torchvision translates by whole pixels.
    return maps @ shifted(np.round(augment.translation * width * right), np.round(augment.translation * height * down))


def is_affine(augment: cfg.Augment) -> bool:
    """Whether `random_affine` changes anything."""
    return bool(augment.rotation or augment.translation or augment.shear or augment.zoom != [1.0, 1.0])
