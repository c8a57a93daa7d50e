"""What becomes of pictures of another shape, by arithmetic of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from runner.images import Preparation, crop_box, decode, prepare, to_grey

SIDES = st.integers(1, 60)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width)
    pixels[:, :, 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_a_crop_is_the_largest_of_its_shape_from_the_centre(width, height, wanted_height, wanted_width):
    picture = gradient(width, height)
    expected = np.asarray(ImageOps.fit(picture, (wanted_width, wanted_height), Image.Resampling.BILINEAR))
    # Pillow may round after scaling across where here it is after scaling down.
    made = prepare(picture, Preparation(wanted_height, wanted_width)).astype(int)
    np.testing.assert_allclose(made, expected, atol=1)


def test_a_crop_ratio_takes_a_part_of_that():
    assert crop_box((500, 400), Preparation(224, 224, crop_ratio=0.875)) == (75, 25, 425, 375)


def test_padding_shows_all_of_a_picture_on_the_background():
    made = prepare(Image.new("RGB", (40, 20), (9, 9, 9)), Preparation(16, 16, resize="pad", background=(1, 2, 3)))
    assert (made[4:12] == 9).all()
    assert (made[:4] == (1, 2, 3)).all()
    assert (made[12:] == (1, 2, 3)).all()


def test_stretching_scales_each_side_for_itself():
    made = prepare(gradient(60, 20), Preparation(10, 10, resize="stretch"))
    assert made[0, 0, 0] < 20
    assert made[0, -1, 0] > 235


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@settings(deadline=None)
@given(width=SIDES, height=SIDES, channels=st.sampled_from([1, 3]))
def test_what_comes_out_has_the_wanted_shape(resize, width, height, channels):
    made = prepare(gradient(width, height), Preparation(7, 12, channels, resize))
    assert (made.shape, made.dtype) == ((7, 12, channels), np.uint8)


def test_what_is_transparent_shows_the_background(tmp_path):
    pixels = np.full((8, 8, 4), (200, 0, 0, 0), dtype=np.uint8)
    pixels[:, 4:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    made = decode(tmp_path / "half.png", Preparation(8, 8, background=(0, 0, 255)))
    assert (made[:, :4] == (0, 0, 255)).all()
    assert (made[:, 4:] == (200, 0, 0)).all()


def test_grey_arrays_are_those_of_grey_pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_grey(pixels)[0, :, :, 0], np.asarray(Image.fromarray(pixels[0]).convert("L")))
