"""Every operation against Pillow, colorsys and SciPy, which have the same formulas."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from runner.data.augment import operations
from runner.data.augment.apply import operated
from runner.data.augment.operations import Operation


def pictures(count=4, height=24, width=17, channels=3):
    """Noise over a slope, so that histograms are uneven."""
    generator = np.random.default_rng(0)
    slope = np.linspace(20, 200, height * width).reshape(1, height, width, 1)
    noise = generator.normal(0, 30, (count, height, width, channels))
    return np.clip(slope + noise, 0, 255).astype(np.uint8)


def enhanced(kind):
    return lambda image, strength: kind(image).enhance(strength)


PILLOW = {
    Operation.brightness: (enhanced(ImageEnhance.Brightness), [0.3, 1.0, 1.7]),
    Operation.contrast: (enhanced(ImageEnhance.Contrast), [0.3, 1.0, 1.7]),
    Operation.saturation: (enhanced(ImageEnhance.Color), [0.0, 0.3, 1.7]),
    Operation.sharpness: (enhanced(ImageEnhance.Sharpness), [0.0, 0.3, 1.0, 1.9]),
    Operation.invert: (lambda image, _: ImageOps.invert(image), [0]),
    Operation.posterize: (lambda image, bits: ImageOps.posterize(image, bits), [1, 4, 8]),
    Operation.solarize: (lambda image, threshold: ImageOps.solarize(image, threshold), [0, 128, 255]),
    Operation.autocontrast: (lambda image, _: ImageOps.autocontrast(image), [0]),
    Operation.equalize: (lambda image, _: ImageOps.equalize(image), [0]),
}


@pytest.mark.parametrize("operation", PILLOW, ids=lambda one: one.name)
def test_an_operation_is_that_of_pillow_up_to_a_grey_level(operation):
    function, strengths = PILLOW[operation]
    for strength in strengths:
        for picture in pictures():
            expected = np.asarray(function(Image.fromarray(picture), strength)).astype(int)
            # Pillow rounds the mean grey, and cuts off fractions.
            assert np.abs(operated(picture, [(operation, strength)]) - expected).max() <= 2 - (strength in (0, 1))


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5))
@settings(max_examples=200, deadline=None)
def test_hue_is_turned_as_in_hsv(colour, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    expected = [255 * part for part in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)]
    picture = np.full((2, 2, 3), colour, np.uint8)
    assert np.abs(operations.hue(picture, turn)[0, 0] - np.array(expected)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0, 9.0])
def test_a_blur_is_that_of_scipy_with_mirrored_edges(sigma):
    for picture in pictures(2, 40, 33):
        radius = len(operations.blur_weights(sigma)) // 2
        expected = [
            ndimage.gaussian_filter(picture[..., c].astype(float), sigma, mode="mirror", radius=radius)
            for c in range(3)
        ]
        assert np.abs(operations.blur(picture, sigma) - np.stack(expected, 2)).max() <= 1


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_blur_wider_than_the_image_is_mirrored_as_often_as_needed(side):
    picture = pictures(1, side, side)[0]
    expected = ndimage.correlate1d(
        picture.astype(float), operations.blur_weights(2.0) / operations.WEIGHT, 0, mode="mirror"
    )
    expected = ndimage.correlate1d(expected, operations.blur_weights(2.0) / operations.WEIGHT, 1, mode="mirror")
    assert np.abs(operations.blur(picture, 2.0) - expected).max() <= 1


def test_linear_operations_in_a_row_are_one_matrix_without_a_cut_between_them():
    picture = np.full((4, 4, 3), 200, np.uint8)
    # One after another the first would cut at 255.
    assert operated(picture, [(Operation.brightness, 2.0), (Operation.brightness, 0.5)]).tolist() == picture.tolist()


def test_contrast_after_brightness_is_about_the_mean_that_brightness_leaves():
    picture = pictures(1)[0] // 2
    one = operated(picture, [(Operation.brightness, 1.5), (Operation.contrast, 0.5)])
    two = operated(operated(picture, [(Operation.brightness, 1.5)]), [(Operation.contrast, 0.5)])
    assert np.abs(one.astype(int) - two).max() <= 1


@pytest.mark.parametrize("operation", list(Operation), ids=lambda one: one.name)
def test_grey_images_of_one_value_and_one_pixel_stay_images(operation):
    strength = {Operation.posterize: 4, Operation.blur: 1.0}.get(operation, 0.5)
    for shape in ((1, 1, 1), (5, 4, 1), (1, 7, 3)):
        changed = operated(np.full(shape, 77, np.uint8), [(operation, strength)])
        assert changed.shape == shape
        assert changed.dtype == np.uint8


def test_hue_and_saturation_leave_grey_images_alone():
    picture = pictures(1, channels=1)[0]
    assert operated(picture, [(Operation.saturation, 0.0), (Operation.hue, 0.3)]).tolist() == picture.tolist()
