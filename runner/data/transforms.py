"""Changes to whole batches: augmentation as a function of (seed, epoch, image), and normalisation on the device."""

from __future__ import annotations

import numpy as np
import paddle
from numpy.lib.stride_tricks import sliding_window_view
from paddle import Tensor

from .. import config as cfg


class Augmentation:
    """The random changes of one epoch to every image of a split of `size` images.

    The numbers are drawn for all images at once, so those of an image depend on neither batch, order nor process.
    """

    def __init__(self, config: cfg.Data, seed: int, epoch: int, size: int) -> None:
        # The third number keeps these draws apart from those of the order.
        generator = np.random.default_rng([seed, epoch, 1])
        augment, side = config.augment, config.image_size
        self.padding, self.cutout = augment.crop_padding, augment.cutout
        self.fill = np.round(255 * np.array(config.mean)).astype(np.uint8)
        self.offsets = generator.integers(0, 2 * self.padding + 1, (size, 2))
        self.flips = generator.random(size) < 0.5 if augment.flip else np.zeros(size, dtype=bool)
        self.holes = generator.integers(0, side, (size, 2)) - self.cutout // 2

    def __call__(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, C] to uint8 [B, C, S, S]: cropped out of a black border, flipped, with a hole.

        indices: int64 [B], the places of the images in their split. The hole has the mean's colour.
        """
        side = images.shape[1]
        if self.padding:
            border = ((0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0))
            windows = sliding_window_view(np.pad(images, border), (side, side), axis=(1, 2))  # type: ignore[call-overload]
            rows, columns = self.offsets[indices].T
            batch = windows[np.arange(len(images)), rows, columns]
        else:
            batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        flips = self.flips[indices]
        if flips.any():
            batch[flips] = batch[flips, :, :, ::-1]
        if self.cutout:
            self._cut(batch, self.holes[indices])
        return batch

    def _cut(self, batch: np.ndarray, corners: np.ndarray) -> None:
        places = np.arange(batch.shape[2])
        rows, columns = ((places >= corner[:, None]) & (places < corner[:, None] + self.cutout) for corner in corners.T)
        hole = (rows[:, :, None] & columns[:, None, :])[:, None]
        np.copyto(batch, self.fill[: batch.shape[1], None, None], where=hole)


class Normalize:
    """Bytes to what a network is given: (x / 255 - mean) / std on the device, grey repeated to three channels."""

    def __init__(self, config: cfg.Data) -> None:
        self.scales = [1 / (255 * std) for std in config.std]
        self.shifts = [-mean / std for mean, std in zip(config.mean, config.std, strict=True)]

    def __call__(self, images: np.ndarray) -> Tensor:
        """uint8 [B, C, S, S] to float32 [B, 3, S, S]."""
        pixels = paddle.to_tensor(images).astype("float32")
        # A channel at a time: Paddle 3.3.1 broadcasts [1, 3, 1, 1] slowly on a CPU.
        channels = [
            pixels[:, channel % images.shape[1]] * scale + shift
            for channel, (scale, shift) in enumerate(zip(self.scales, self.shifts, strict=True))
        ]
        return paddle.stack(channels, axis=1)
