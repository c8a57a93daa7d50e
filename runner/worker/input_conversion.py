"""Conversion of images to the normalisation, channels and size that another network was trained with."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from .. import config as cfg
from ..errors import ConfigError

#: The luma of red, green and blue, as ITU-R BT.601 and Pillow have it.
LUMA = (0.299, 0.587, 0.114)


def adapt_input(called: str, network: nn.Layer, source: cfg.Data, target: cfg.Data, notes: list[str]) -> None:
    """Have a network convert its input from the images of `source` to those of `target`, which it was trained on."""
    matrix, shift = conversion(source, target)
    is_same = source.channels == target.channels and np.allclose(matrix, np.eye(source.channels)) and not shift.any()
    if is_same and source.size == target.size:
        return
    size, given = ("×".join(map(str, data.size)) for data in (target, source))
    same = target.size[0] if target.size[0] == target.size[1] else f"[{target.size[0]},{target.size[1]}]"
    scaled = f", scaled from {given}: data.image_size={same} would spare it the blur" if size != given else ""
    notes.append(f"{called}: it sees the images in its own normalisation and in {size} pixels{scaled}")
    convert = functools.partial(_convert, matrix=matrix, shift=shift)

    def convert_input(_layer: nn.Layer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images = inputs[0] if is_same else convert(inputs[0])
        return (resize(images, target.size), *inputs[1:])

    network.register_forward_pre_hook(convert_input)


def conversion(source: cfg.Data, target: cfg.Data) -> tuple[np.ndarray, np.ndarray]:
    """(matrix [known channels, given channels], shift [known channels]) from images normalised one way to another.

    Colour becomes grey by its luma, and grey becomes three equal channels. Errors: ConfigError for other channels.
    """
    match (source.channels, target.channels):
        case (one, other) if one == other:
            mix = np.eye(one)
        case (3, 1):
            mix = np.array([LUMA])
        case (1, 3):
            mix = np.ones((3, 1))
        case (channels, wanted):
            raise ConfigError(
                f"The teacher takes images of {wanted} channels, and data.channels={channels}. Take another."
            )
    mean, std, own_mean, own_std = (np.array(numbers) for numbers in (source.mean, source.std, target.mean, target.std))
    matrix = mix * std / own_std[:, None]
    shift = (mix @ mean - own_mean) / own_std
    return matrix, np.where(np.abs(shift) < 1e-9, 0, shift)


def _convert(images: Tensor, matrix: np.ndarray, shift: np.ndarray) -> Tensor:
    """float32 [N, C, H, W] to [N, C', H, W]."""
    # A channel at a time: Paddle 3.3.1 broadcasts [1, C, 1, 1] slowly on a CPU.
    channels = [
        sum(float(factor) * images[:, place] for place, factor in enumerate(row) if factor) + float(constant)
        for row, constant in zip(matrix, shift, strict=True)
    ]
    return paddle.stack(channels, axis=1)


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """float32 [N, C, H, W] at another size: bilinear for upscaling, area averages for downscaling."""
    if list(images.shape[2:]) == list(size):
        return images
    grows = size[0] * size[1] > images.shape[2] * images.shape[3]
    how = {"mode": "bilinear", "align_corners": False} if grows else {"mode": "area"}
    return F.interpolate(images, size=list(size), **how)
