"""Operations on the pixels of one image, in integer arithmetic, so that compiled code gives identical results.

Each takes uint8 [H, W, C] and a number, and returns uint8 [H, W, C]. The formulas are those of torchvision (v2) and
Pillow. `kernels/src/changes.cc` implements the same ones, up to `COMPILED`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import numpy as np


class Operation(enum.IntEnum):
    """Operation codes; the same as in `kernels/src/changes.cc`."""

    nothing = 0
    brightness = 1
    contrast = 2
    saturation = 3
    invert = 4
    hue = 5
    sharpness = 6
    posterize = 7
    solarize = 8
    autocontrast = 9
    equalize = 10
    blur = 11


#: The last operation that has compiled code; NumPy processes batches that contain a later one.
COMPILED = Operation.blur
#: Colour operations that are a matrix; consecutive ones are multiplied into one.
LINEAR = (Operation.brightness, Operation.contrast, Operation.saturation, Operation.invert)
#: Weights of red, green and blue in grey (ITU-R 601-2).
GREY = np.array([0.2989, 0.587, 0.114])
#: Fixed-point 1 of matrices and of the sharpness; the largest factor.
ONE, LARGEST_FACTOR = 1 << 12, 64
#: Fixed-point 1 of blur weights, which leave rows 8 fractional bits.
WEIGHT = 1 << 14


def linear(images_mean: np.ndarray, operations: list[tuple[int, float]]) -> np.ndarray:
    """Consecutive linear operations, (code, strength), as a matrix float64 [C, C + 1], whose last column is added.

    images_mean: float64 [C], the mean of the image before them. Values are not clipped to 0…255 in between.
    """
    channels = len(images_mean)
    matrix = np.eye(channels, channels + 1)
    grey = GREY if channels == 3 else np.eye(1, channels)[0]
    for code, strength in operations:
        match code:
            case Operation.brightness:
                matrix *= strength
            case Operation.contrast:
                middle = grey @ (matrix[:, :-1] @ images_mean + matrix[:, -1])
                matrix *= strength
                matrix[:, -1] += (1 - strength) * middle
            case Operation.saturation if channels == 3:
                matrix = strength * matrix + (1 - strength) * (grey @ matrix)
            case Operation.invert:
                matrix = -matrix
                matrix[:, -1] += 255
    return matrix


def multiplied(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Every pixel multiplied by a matrix of `linear`."""
    whole = np.floor(np.clip(matrix, -LARGEST_FACTOR, LARGEST_FACTOR) * ONE + 0.5).astype(np.int64)
    added = np.floor(np.clip(matrix[:, -1], -(1 << 17), 1 << 17) * ONE + 0.5).astype(np.int64)
    values = image.astype(np.int64) @ whole[:, :-1].T + added + ONE // 2
    return np.clip(values >> 12, 0, 255).astype(np.uint8)


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Rotate the hue by a fraction of the colour circle, through HSV."""
    if image.shape[2] != 3:
        return image
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    most, least = image.max(axis=2).astype(np.float64), image.min(axis=2).astype(np.float64)
    spread = most - least
    divisor = np.where(spread == 0, 1, spread)
    place = np.where(
        most == red,
        (green - blue) / divisor,
        np.where(most == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    place = place / 6 + turn
    place = 6 * (place - np.floor(place))
    channels = []
    for start in (5, 3, 1):
        # HSV to RGB without cases: each channel is a trapezium of the hue.
        part = start + place
        part = np.where(part >= 6, part - 6, part)
        channels.append(most - spread * np.clip(np.minimum(part, 4 - part), 0, 1))
    return np.floor(np.stack(channels, axis=2) + 0.5).astype(np.uint8)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with a smoothed copy: 0 is that copy, 1 the image. The outermost pixels are unchanged."""
    if min(image.shape[:2]) < 3:
        return image
    wide = image.astype(np.int64)
    total = 4 * wide[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total = total + wide[row : row + len(wide) - 2, column : column + wide.shape[1] - 2]
    smooth = (2 * total + 13) // 26
    strength = ONE - math.floor(min(factor, LARGEST_FACTOR) * ONE + 0.5)
    inner = wide[1:-1, 1:-1]
    wide[1:-1, 1:-1] = np.clip((inner * ONE + strength * (smooth - inner) + ONE // 2) >> 12, 0, 255)
    return wide.astype(np.uint8)


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
    """Keep the highest bits of each value."""
    return image & np.uint8(256 - (1 << (8 - int(bits))))


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert values at or above the threshold."""
    return np.where(image >= threshold, 255 - image, image)


def autocontrast(image: np.ndarray, _: float = 0) -> np.ndarray:
    """Stretch each channel to 0…255; a constant channel is unchanged."""
    least, most = image.min(axis=(0, 1)).astype(np.int64), image.max(axis=(0, 1)).astype(np.int64)
    spread = np.where(most > least, most - least, 255)
    least = np.where(most > least, least, 0)
    return ((2 * 255 * (image - least) + spread) // (2 * spread)).astype(np.uint8)


def equalize(image: np.ndarray, _: float = 0) -> np.ndarray:
    """Equalize the histogram of each channel, as Pillow does."""
    changed = np.empty_like(image)
    for channel in range(image.shape[2]):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        table = np.minimum((before + step // 2) // step, 255) if step else np.arange(256)
        changed[..., channel] = table[image[..., channel]]
    return changed


def blur_weights(sigma: float) -> np.ndarray:
    """Gaussian weights, int64 [2 r + 1] with r = ⌈3 σ⌉, whose sum is `WEIGHT`."""
    radius = math.ceil(3 * sigma)
    kernel = [math.exp(-0.5 * (place / sigma) * (place / sigma)) for place in range(-radius, radius + 1)]
    total = sum(kernel)
    weights = np.array([math.floor(WEIGHT * weight / total + 0.5) for weight in kernel], dtype=np.int64)
    weights[radius] += WEIGHT - weights.sum()
    return weights


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with reflected borders, which do not repeat the outermost pixels."""
    weights = blur_weights(sigma)
    rows = _weighted(image.astype(np.int64), weights, axis=1)
    rows = (rows + 32) >> 6
    return ((_weighted(rows, weights, axis=0) + (1 << 21)) >> 22).astype(np.uint8)


def _weighted(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    side, radius = values.shape[axis], len(weights) // 2
    total = np.zeros_like(values)
    for place, weight in enumerate(weights):
        total += weight * values.take(mirrored(np.arange(side) + place - radius, side), axis=axis)
    return total


def mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Positions outside 0…side - 1, reflected at the outermost pixels."""
    if side == 1:
        return np.zeros_like(places)
    places = np.abs(places) % (2 * side - 2)
    return np.minimum(places, 2 * side - 2 - places)


#: The operations that are not a matrix.
FUNCTIONS: dict[Operation, Callable[[np.ndarray, float], np.ndarray]] = {
    Operation.hue: hue,
    Operation.sharpness: sharpness,
    Operation.posterize: posterize,
    Operation.solarize: solarize,
    Operation.autocontrast: autocontrast,
    Operation.equalize: equalize,
    Operation.blur: blur,
}
