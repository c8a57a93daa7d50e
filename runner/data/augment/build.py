"""From the config and the random numbers of some images to the program that changes them."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from ... import config as cfg
from . import colour, geometry, policies
from .apply import Program
from .changes import Changes
from .draws import ATTEMPTS, Draws, Purpose, rectangles

#: Keys of what happens to pairs of images, after all changes of single ones.
MIXING = ("mixup", "cutmix", "mix_probability", "mix_last_probability", "mix_switch", "mix_off_epochs")
#: Keys whose changes need no program.
SIMPLE = ("enabled", "crop_padding", "crop_ratio", "flip", "cutout", "target", "kwargs", *MIXING)


def is_simple(augment: cfg.Augment) -> bool:
    """Whether all changes are those of `Changes`."""
    without = cfg.Augment(**{key: getattr(augment, key) for key in SIMPLE})
    return augment == without


def build(augment: cfg.Augment, draws: Draws, simple: Changes, source: tuple[int, int], data: cfg.Data) -> Program:
    """The program of some images: first all geometric changes as one map, then colours, then holes.

    `simple` has the draws of padded crops, flips and cutout; source: height and width of the images before them.
    """
    size = data.size
    assert simple.fill is not None
    policy = policies.draw(augment, draws, *size)
    moves = list(_moves(augment, draws, simple, source, size))
    if policy is not None:
        moves.append(policy.maps)
    maps = functools.reduce(np.matmul, moves) if moves else None
    operations = []
    if colour.is_jittered(augment):
        operations.append(colour.jitter(augment, draws))
    operations.append(colour.singles(augment, draws))
    if policy is not None:
        operations.append(policy.operations)
    codes, values = (np.concatenate(parts, axis=1) for parts in zip(*operations, strict=True))
    fill = np.resize(np.array(augment.fill, dtype=np.uint8), data.channels)
    return Program(maps, fill, codes, values, _holes(augment, draws, simple, size), simple.fill, size)


def _moves(
    augment: cfg.Augment, draws: Draws, simple: Changes, source: tuple[int, int], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Maps from the original on: the crop, flips, rotation and what goes with it."""
    batch = len(draws.indices)
    if augment.crop_scale is not None:
        yield geometry.cropped(geometry.random_boxes(augment, draws, *source), *size)
    elif source != size:
        yield geometry.cropped(np.tile([0, 0, *source], (batch, 1)), *size)
    if simple.offsets is not None:
        down, right = simple.padding - simple.offsets.T
        yield geometry.shifted(right, down)
    if augment.flip or augment.flip_vertical:
        rows = np.zeros(batch, dtype=bool)
        if augment.flip_vertical:
            rows = draws.uniform(Purpose.flip_vertical, 1)[:, 0] < 0.5
        columns = np.zeros(batch, dtype=bool) if simple.flips is None else simple.flips
        yield geometry.flipped(columns, rows, *size)
    if geometry.is_affine(augment):
        yield geometry.random_affine(augment, draws, *size)


def _holes(augment: cfg.Augment, draws: Draws, simple: Changes, size: tuple[int, int]) -> np.ndarray:
    """int64 [B, M, 4]: top, left, bottom, right of `cutout` and `erasing`."""
    holes = []
    if simple.holes is not None:
        holes.append(np.concatenate([simple.holes, simple.holes + simple.cutout], axis=1))
    if augment.erasing:
        numbers = draws.uniform(Purpose.erasing, 2 * ATTEMPTS + 3)
        # The ratio of height by width is the reciprocal of that of width by height.
        ratio = [1 / augment.erasing_ratio[1], 1 / augment.erasing_ratio[0]]
        boxes, fitted = rectangles(numbers[:, 1:], *size, augment.erasing_scale, ratio, is_smaller=True)
        boxes[:, 2:] += boxes[:, :2]
        holes.append(boxes * (fitted & (numbers[:, 0] < augment.erasing))[:, None])
    return np.stack(holes, axis=1) if holes else np.zeros((len(draws.indices), 0, 4), dtype=np.int64)
