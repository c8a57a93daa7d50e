"""Transforms of whole batches: augmentation as a function of (seed, epoch, image), and normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
from paddle import Tensor

from .. import config as cfg
from .. import device
from ..kernels import native
from .augment.apply import Program, address
from .augment.build import build, is_simple
from .augment.changes import Changes
from .augment.custom import changed
from .augment.draws import Draws
from .augment.geometry import Crops, no_crop, random_crops
from .augment.mix import Mixing


class Augmentation:
    """The augmentation of every image of a split of `size` images in one epoch.

    Crops, flips and the hole of `cutout` are drawn for all images at once, from one generator in this order (so `flip`
    changes the holes), everything else for single images: an image's augmentation depends on neither batch, order nor
    process. Holes have the mean colour. `crops_pictures`: `crop_scale` is for `crops`, and what else there is comes
    after it.
    """

    def __init__(
        self, config: cfg.Data, augment: cfg.Augment, seed: int, epoch: int, size: int, crops_pictures: bool = False
    ) -> None:
        # The third number separates these draws from those of the order.
        generator = np.random.default_rng([seed, epoch, 1])
        self.augment = augment if augment.enabled else cfg.Augment()
        self.config, self.seed, self.epoch = config, seed, epoch
        self.fill = np.round(255 * np.array(config.mean)).astype(np.uint8)
        self.offsets = generator.integers(0, 2 * self.augment.crop_padding + 1, (size, 2))
        self.flips = generator.random(size) < 0.5 if self.augment.flip else np.zeros(size, dtype=bool)
        self.holes = generator.integers(0, config.size, (size, 2)) - self.augment.cutout // 2
        self.cropping: cfg.Augment | None = None
        if crops_pictures and self.augment.crop_scale is not None:
            self.cropping, self.augment = self.augment, replace(self.augment, crop_scale=None, crop_padding=0)
        self.is_simple = is_simple(self.augment)

    def crops(self, batches: list[np.ndarray]) -> Crops:
        """What is cut out of whole pictures while they are decoded, by position in these batches of indices."""
        if self.cropping is None:
            return no_crop
        indices = np.concatenate([*batches, np.empty(0, np.int64)])
        return random_crops(self.cropping, Draws(self.seed, self.epoch, indices))

    def prepare(self, images: np.ndarray, places: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images and their positions after the user-defined augmentation, if any: then the images are those of the
        batch."""
        if self.augment.target is None:
            return images, places
        draws = Draws(self.seed, self.epoch, indices)
        return changed(images[places], draws, self.augment.target, self.augment.kwargs), np.arange(len(places))

    def __call__(self, indices: np.ndarray, source: tuple[int, int] | None = None) -> Changes | Program:
        """What is drawn for some images of the split.

        indices: int64 [B]; source: height and width before augmentation.
        """
        augment = self.augment
        simple = Changes(
            padding=augment.crop_padding,
            offsets=self.offsets[indices] if augment.crop_padding and augment.crop_scale is None else None,
            flips=self.flips[indices] if augment.flip else None,
            cutout=augment.cutout,
            holes=self.holes[indices] if augment.cutout else None,
            fill=self.fill,
        )
        if self.is_simple and source in (None, self.config.size):
            return simple
        draws = Draws(self.seed, self.epoch, indices)
        return build(augment, draws, simple, source or self.config.size, self.config)


class Normalize:
    """Bytes to the network's input: (x / 255 - mean) / std, after augmentation; grey is repeated for colour channels.

    The CPU's compiled kernels do all in one pass, with bit-identical results.
    """

    def __init__(self, config: cfg.Data) -> None:
        self.scales = np.array([1 / (255 * std) for std in config.std], dtype=np.float32)
        self.shifts = np.array([-m / s for m, s in zip(config.mean, config.std, strict=True)], dtype=np.float32)

    def __call__(self, images: np.ndarray, places: np.ndarray, changes: Changes | Program | None = None) -> Tensor:
        """uint8 [T, H, W, 1 or C] at indices `places`, int64 [B], to float32 [B, C, H, W] on the device."""
        changes = changes or Changes()
        is_native = device.is_cpu() and not native.unavailable()
        match changes:
            case Changes() if is_native:
                return self._compiled(images, places, changes)
            case Program() if is_native and changes.is_compiled:
                batch = paddle.empty([len(places), len(self.scales), *changes.size], "float32")
                changes.run(images, places, scales=self.scales, shifts=self.shifts, batch=batch.data_ptr())
                return batch
        return self.pixels(paddle.to_tensor(changes.of(images[places])))

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B, 1 or C, H, W] to float32 [B, C, H, W], both on the device."""
        pixels = images.astype("float32")
        # A channel at a time: Paddle 3.3.1 broadcasts [1, 3, 1, 1] slowly on a CPU.
        channels = [
            pixels[:, channel % images.shape[1]] * float(self.scales[channel]) + float(self.shifts[channel])
            for channel in range(len(self.scales))
        ]
        return paddle.stack(channels, axis=1)

    def _compiled(self, images: np.ndarray, places: np.ndarray, changes: Changes) -> Tensor:
        _, height, width, stored = images.shape
        channels = len(self.scales)
        # A process's part of a batch is a view.
        places = np.ascontiguousarray(places)
        batch = paddle.empty([len(places), channels, height, width], "float32")
        native.kernels().augment(
            len(places), height, width, stored, channels, address(images), address(places), changes.padding,
            address(changes.offsets), address(changes.flips), changes.cutout, address(changes.holes),
            address(changes.fill), address(self.scales), address(self.shifts), batch.data_ptr(),
        )  # fmt: skip
        return batch


def mixed(images: Tensor, partners: np.ndarray, mixing: Mixing) -> Tensor:
    """The first B images, float32 [R, C, H, W], mixed with their partners among all R, int64 [B], as drawn for them."""
    if device.is_cpu() and not native.unavailable():
        batch = paddle.empty([len(partners), *images.shape[1:]], "float32")
        blends, boxes = np.ascontiguousarray(mixing.blends), np.ascontiguousarray(mixing.boxes)
        native.kernels().mix(
            *batch.shape, images.data_ptr(), address(partners), address(blends), address(boxes), batch.data_ptr()
        )
        return batch
    weights = paddle.to_tensor(mixing.weights())
    return images[: len(partners)] * weights + images[paddle.to_tensor(partners)] * (1 - weights)
