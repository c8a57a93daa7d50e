"""Applying augmentation to a batch, by compiled code or in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels import native
from .operations import COMPILED, FUNCTIONS, LINEAR, Operation, linear, multiplied

#: Fractional bits of maps, which count half pixels, and of resampling weights.
MAP_BITS, WEIGHT_BITS = 20, 11


@dataclass
class Program:
    """The changes to B images, in order: one map with one bilinear resampling, colour operations, holes."""

    maps: np.ndarray | None
    """float64 [B, 3, 3], see `geometry`; None: no geometric change."""
    fill: np.ndarray
    """uint8 [C]: the colour beyond the image's edges."""
    codes: np.ndarray
    """int32 [B, K]: operations."""
    values: np.ndarray
    """float32 [B, K]: the argument of each operation."""
    boxes: np.ndarray
    """int64 [B, M, 4]: top, left, bottom, right (exclusive) of holes, which may be outside of the image."""
    hole: np.ndarray
    """uint8 [C]: their colour."""
    size: tuple[int, int]
    """Height and width of the result; without maps those of the images."""

    @property
    def whole_maps(self) -> np.ndarray | None:
        """int64 [B, 6]: the first two rows of the maps in fixed point with `MAP_BITS` fractional bits."""
        if self.maps is None:
            return None
        rows = self.maps[:, :2].reshape(len(self.maps), 6)
        return np.ascontiguousarray(np.round(rows * (1 << MAP_BITS)).astype(np.int64))

    def of(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, h, w, S] to uint8 [B, S, H, W]."""
        if self.is_compiled and not native.unavailable():
            changed = np.empty((len(images), images.shape[3], *self.size), dtype=np.uint8)
            self.run(np.ascontiguousarray(images), np.arange(len(images)), changed=changed)
            return changed
        return self.interpreted(images)

    @property
    def is_compiled(self) -> bool:
        """Whether all of the operations have compiled code."""
        return not self.codes.size or bool(self.codes.max() <= COMPILED)

    def run(
        self,
        images: np.ndarray,
        places: np.ndarray,
        changed: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        shifts: np.ndarray | None = None,
        batch: int | None = None,
    ) -> None:
        """Run the compiled code: from images uint8 [T, h, w, S] at indices `places`, int64 [B], into one of two arrays.

        `changed`: uint8 [B, S, H, W]. `batch`: address of float32 [B, C, H, W], the result times `scales` plus
        `shifts`, float32 [C].
        """
        _, height, width, stored = images.shape
        maps, codes, values = self.whole_maps, _contiguous(self.codes, np.int32), _contiguous(self.values, np.float32)
        boxes, places = _contiguous(self.boxes, np.int64), np.ascontiguousarray(places)
        native.kernels().change(
            len(places), height, width, *self.size, stored, 0 if scales is None else len(scales), address(images),
            address(places), address(maps), address(self.fill), codes.shape[1], address(codes), address(values),
            boxes.shape[1], address(boxes), address(self.hole), address(scales), address(shifts),
            address(changed), batch,
        )  # fmt: skip

    def interpreted(self, images: np.ndarray) -> np.ndarray:
        """The same in NumPy, one image at a time."""
        maps = self.whole_maps
        changed = [self._changed(image, None if maps is None else maps[row], row) for row, image in enumerate(images)]
        return np.ascontiguousarray(np.stack(changed).transpose(0, 3, 1, 2))

    def _changed(self, image: np.ndarray, numbers: np.ndarray | None, row: int) -> np.ndarray:
        fill, hole = self.fill[: image.shape[2]], self.hole[: image.shape[2]]
        image = image if numbers is None else resampled(image, numbers, fill, self.size)
        image = operated(image, list(zip(self.codes[row].tolist(), self.values[row].tolist(), strict=True)))
        if len(self.boxes[row]):
            image = image.copy()
        for top, left, bottom, right in np.maximum(self.boxes[row], 0):
            image[top:bottom, left:right] = hole
        return image


def resampled(image: np.ndarray, numbers: np.ndarray, fill: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image resampled by one of `Program.whole_maps`, bilinear; uint8 [h, w, S] to uint8 [H, W, S].

    As in Pillow, a pixel is the fill if its centre is outside the image; beyond the outermost centres pixels repeat.
    """
    height, width = image.shape[:2]
    y, x = (2 * np.arange(side, dtype=np.int64) + 1 for side in size)
    half = 1 << MAP_BITS
    across = numbers[0] * x + numbers[1] * y[:, None] + 2 * numbers[2]
    down = numbers[3] * x + numbers[4] * y[:, None] + 2 * numbers[5]
    inside = (across >= 0) & (across < 2 * half * width) & (down >= 0) & (down < 2 * half * height)
    columns, column_weights = _neighbours(across - half, width)
    rows, row_weights = _neighbours(down - half, height)
    one, wide = 1 << WEIGHT_BITS, image.astype(np.int64)
    total = np.full((*size, image.shape[2]), 1 << (2 * WEIGHT_BITS - 1))
    for row, row_weight in zip(rows, (one - row_weights, row_weights), strict=True):
        for column, weight in zip(columns, (one - column_weights, column_weights), strict=True):
            total += wide[row, column] * (row_weight * weight)[..., None]
    return np.where(inside[..., None], (total >> (2 * WEIGHT_BITS)).astype(np.uint8), fill)


def _neighbours(places: np.ndarray, side: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    first = places >> (MAP_BITS + 1)
    weights = (places >> (MAP_BITS + 1 - WEIGHT_BITS)) & ((1 << WEIGHT_BITS) - 1)
    return (np.clip(first, 0, side - 1), np.clip(first + 1, 0, side - 1)), weights


def operated(image: np.ndarray, operations: list[tuple[int, float]]) -> np.ndarray:
    """An image, uint8 [H, W, C], after operations (code, strength); consecutive linear ones are one matrix."""
    pending: list[tuple[int, float]] = []
    for code, strength in [*operations, (None, 0.0)]:
        if code == Operation.nothing:
            continue
        if code in LINEAR:
            pending.append((code, strength))
            continue
        if pending:
            mean = image.reshape(-1, image.shape[2]).sum(axis=0, dtype=np.int64) / (image.shape[0] * image.shape[1])
            image, pending = multiplied(image, linear(mean, pending)), []
        if code is not None:
            image = FUNCTIONS[Operation(code)](image, strength)
    return image


def _contiguous(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=dtype)


def address(array: np.ndarray | None) -> int | None:
    """The address of an array; None without one."""
    if array is None:
        return None
    assert array.flags.c_contiguous, "the kernels step from one number to the next"
    return array.ctypes.data
