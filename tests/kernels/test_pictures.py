"""Pictures are scaled by the compiled kernel as by Pillow, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.images import resampling
from runner.kernels import native, pictures

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")

SIDES = st.integers(1, 90)
PART = st.floats(0, 1)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["L", "RGB"]), st.tuples(PART, PART, PART, PART), st.integers(0, 2))
def test_any_box_of_any_picture_becomes_the_same(width, height, columns, rows, mode, parts, content):
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = [
        lambda: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
        lambda: np.full(shape, 255, np.uint8),
        lambda: np.resize(np.array([0, 255], np.uint8), shape),
    ][content]()
    left, upper = 0.45 * parts[0] * width, 0.45 * parts[1] * height
    right, lower = width - 0.45 * parts[2] * width, height - 0.45 * parts[3] * height
    image, box = Image.fromarray(pixels), (left, upper, right, lower)
    expected = resampling.resample(image, box, (columns, rows))
    np.testing.assert_array_equal(pictures.resample(image, box, (columns, rows)), expected)


def test_without_kernels_pillow_scales(monkeypatch):
    monkeypatch.setattr(native, "unavailable", lambda: "no compiler")
    assert pictures.resampler.__wrapped__() is resampling.resample
