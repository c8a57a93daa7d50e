"""Crop with padding, flip and cutout: changes that need no resampling, and have a compiled pass of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass
class Changes:
    """Padded crops, flips and cutouts of some images. None: no such change."""

    padding: int = 0
    """Width of the black border in pixels; another `augment.fill` takes a `Program`."""
    offsets: np.ndarray | None = None
    """int64 [B, 2]: row and column of the crop in the padded image."""
    flips: np.ndarray | None = None
    """bool [B]."""
    cutout: int = 0
    """Side of the cutout square in pixels."""
    holes: np.ndarray | None = None
    """int64 [B, 2]: upper left corners of the squares, which may be outside of the image."""
    fill: np.ndarray | None = None
    """uint8 [C]: the colour of the squares."""

    def of(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, C] to uint8 [B, C, H, W]."""
        height, width = images.shape[1:3]
        if self.offsets is not None:
            border = ((0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0))
            windows = sliding_window_view(np.pad(images, border), (height, width), axis=(1, 2))  # type: ignore[call-overload]
            rows, columns = self.offsets.T
            batch = windows[np.arange(len(images)), rows, columns]
        else:
            batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        if self.flips is not None:
            batch[self.flips] = batch[self.flips, :, :, ::-1]
        if self.holes is not None and self.fill is not None:
            rows, columns = (
                (np.arange(side) >= corner[:, None]) & (np.arange(side) < corner[:, None] + self.cutout)
                for side, corner in zip((height, width), self.holes.T, strict=True)
            )
            hole = (rows[:, :, None] & columns[:, None, :])[:, None]
            np.copyto(batch, self.fill[: batch.shape[1], None, None], where=hole)
        return batch
