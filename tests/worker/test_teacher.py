"""What a teacher is given, and what it answers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import config as cfg
from runner.errors import ConfigError
from runner.worker import teacher

NUMBERS = st.floats(0.1, 0.9)


def normalised(pixels, data):
    """uint8 [H, W, C] to [1, C, H, W] by the formula."""
    values = (pixels / 255 - np.array(data.mean)) / np.array(data.std)
    return values.transpose(2, 0, 1)[None].astype(np.float32)


@given(st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))
def test_images_of_one_normalisation_become_those_of_the_other(mean, std):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    given_, known = cfg.Data(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4]), cfg.Data(mean=mean, std=std)
    matrix, shift = teacher.conversion(given_, known)
    converted = teacher._converted(paddle.to_tensor(normalised(pixels, given_)), matrix, shift)
    np.testing.assert_allclose(converted.numpy(), normalised(pixels, known), atol=1e-4)


def test_colours_become_their_luma_and_grey_becomes_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    colours, grey = cfg.Data(), cfg.Data(channels=1, mean=[0.3], std=[0.2])
    luma = (pixels * np.array(teacher.LUMA)).sum(-1, keepdims=True)
    for one, other, images, expected in (
        (colours, grey, pixels, luma),
        (grey, colours, pixels[..., :1], pixels[..., :1].repeat(3, -1)),
    ):
        converted = teacher._converted(paddle.to_tensor(normalised(images, one)), *teacher.conversion(one, other))
        np.testing.assert_allclose(converted.numpy(), normalised(expected, other), atol=1e-4)


def test_other_channels_are_refused():
    with pytest.raises(ConfigError, match=r"images of 5 channels, and data\.channels=3"):
        teacher.conversion(cfg.Data(), cfg.Data(channels=5, mean=[0.5] * 5, std=[0.5] * 5))


def test_images_shrink_to_means_of_areas_and_grow_smoothly():
    images = paddle.arange(16, dtype="float32").reshape([1, 1, 4, 4])
    np.testing.assert_allclose(teacher.resized(images, (2, 2)).numpy()[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert teacher.resized(images, (8, 8)).shape == [1, 1, 8, 8]
    assert teacher.resized(images, (4, 4)) is images
