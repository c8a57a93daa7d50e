"""Changes to whole batches: augmentation as a function of (seed, epoch, image), and normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from numpy.lib.stride_tricks import sliding_window_view
from paddle import Tensor

from .. import config as cfg
from .. import device
from ..kernels import native


@dataclass
class Changes:
    """Random changes of some images: cropped out of a black border, mirrored, with a hole. None: no such change."""

    padding: int = 0
    """Width in pixels of the black border."""
    offsets: np.ndarray | None = None
    """int64 [B, 2]: row and column in the image with its border."""
    flips: np.ndarray | None = None
    """bool [B]."""
    cutout: int = 0
    """Side in pixels of the hole."""
    holes: np.ndarray | None = None
    """int64 [B, 2]: upper left corners, which may be outside."""
    fill: np.ndarray | None = None
    """uint8 [C]: the colour of the hole."""

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


class Augmentation:
    """The random changes of one epoch to every image of a split of `size` images.

    The numbers are drawn for all images at once, so those of an image depend on neither batch, order nor process. A
    hole has the mean's colour.
    """

    def __init__(self, config: cfg.Data, seed: int, epoch: int, size: int) -> None:
        # The third number keeps these draws apart from those of the order.
        generator = np.random.default_rng([seed, epoch, 1])
        self.augment = config.augment
        self.fill = np.round(255 * np.array(config.mean)).astype(np.uint8)
        self.offsets = generator.integers(0, 2 * self.augment.crop_padding + 1, (size, 2))
        self.flips = generator.random(size) < 0.5 if self.augment.flip else np.zeros(size, dtype=bool)
        self.holes = generator.integers(0, config.size, (size, 2)) - self.augment.cutout // 2

    def __call__(self, indices: np.ndarray) -> Changes:
        """What was drawn for some images of the split; indices: int64 [B]."""
        augment = self.augment
        return Changes(
            padding=augment.crop_padding,
            offsets=self.offsets[indices] if augment.crop_padding else None,
            flips=self.flips[indices] if augment.flip else None,
            cutout=augment.cutout,
            holes=self.holes[indices] if augment.cutout else None,
            fill=self.fill,
        )


class Normalize:
    """Bytes to what a network is given: (x / 255 - mean) / std, grey repeated where it has colours, after any changes.

    With the CPU's compiled kernels all in one pass; the numbers are the same, bit for bit.
    """

    def __init__(self, config: cfg.Data) -> None:
        self.scales = np.array([1 / (255 * std) for std in config.std], dtype=np.float32)
        self.shifts = np.array([-m / s for m, s in zip(config.mean, config.std, strict=True)], dtype=np.float32)
        bytes_ = np.arange(256, dtype=np.float32)
        self.table = np.ascontiguousarray(bytes_ * self.scales[:, None] + self.shifts[:, None])
        """float32 [C, 256]: what each byte becomes in each channel that the network is given."""

    def __call__(self, images: np.ndarray, places: np.ndarray, changes: Changes | None = None) -> Tensor:
        """uint8 [T, H, W, 1 or C] at `places`, int64 [B], to float32 [B, C, H, W] on the device."""
        changes = changes or Changes()
        if device.is_cpu() and not native.unavailable():
            return self._compiled(images, places, changes)
        return self.pixels(paddle.to_tensor(changes.of(images[places])))

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B, 1 or C, H, W] to float32 [B, C, H, W], both on the device."""
        pixels = images.astype("float32")
        # A channel at a time: Paddle 3.3.1 broadcasts [1, 3, 1, 1] slowly on a CPU.
        channels = [
            pixels[:, channel % images.shape[1]] * float(self.scales[channel]) + float(self.shifts[channel])
            for channel in range(len(self.table))
        ]
        return paddle.stack(channels, axis=1)

    def _compiled(self, images: np.ndarray, places: np.ndarray, changes: Changes) -> Tensor:
        _, height, width, stored = images.shape
        channels = len(self.table)
        # What a process takes of a batch is a view.
        places = np.ascontiguousarray(places)
        batch = paddle.empty([len(places), channels, height, width])
        native.kernels().augment(
            len(places), height, width, stored, channels, _address(images), _address(places), changes.padding,
            _address(changes.offsets), _address(changes.flips), changes.cutout, _address(changes.holes),
            _address(changes.fill), _address(self.table), batch.data_ptr(),
        )  # fmt: skip
        return batch


def _address(array: np.ndarray | None) -> int | None:
    if array is None:
        return None
    assert array.flags.c_contiguous, "the kernels step from one number to the next"
    return array.ctypes.data
