"""A JPEG that is scaled down while it is decoded looks as one that is decoded whole and scaled down then."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner import images
from runner.images import Preparation, decode, prepare, resampling
from runner.kernels.pictures import resampler

from .photos import photo
from .pictures import encoded

SIDES = st.integers(16, 520)
MODES = st.sampled_from(["RGB", "L", "CMYK"])


def whole(content: bytes, preparation: Preparation) -> np.ndarray:
    """What becomes of a picture of which every pixel is decoded, as integers that can be subtracted."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return prepare(image, preparation).astype(int)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    SIDES, SIDES, MODES, st.booleans(), st.integers(1, 8), st.sampled_from([0, 10, 25]), st.sampled_from([75, 95]),
    st.builds(
        Preparation, st.integers(8, 64), st.integers(8, 64), st.sampled_from([1, 3]),
        st.sampled_from(images.RESIZES), st.sampled_from([1.0, 0.875]),
    ),
)  # fmt: skip
def test_the_result_is_that_of_the_whole_picture(
    width, height, mode, progressive, orientation, noise, quality, preparation
):
    note = Image.Exif()
    note[0x112] = orientation
    picture = photo(width, height, noise).convert(mode)
    content = encoded(picture, "JPEG", quality=quality, progressive=progressive, exif=note)
    difference = np.abs(whole(content, preparation) - decode(content, preparation))
    assert difference.mean() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("resize", images.RESIZES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_compiled_scaling_gives_the_same_bits(mode, resize, orientation):
    note = Image.Exif()
    note[0x112] = orientation
    content = encoded(photo(500, 375).convert(mode), "JPEG", exif=note)
    for channels in (1, 3):
        preparation = Preparation(96, 64, channels, resize)
        expected = decode(content, preparation)
        np.testing.assert_array_equal(decode(content, preparation, resample=resampler()), expected)


def test_the_order_of_the_passes_does_not_depend_on_pillow():
    picture = np.random.default_rng(0).integers(0, 256, (200, 17, 3), dtype=np.uint8)
    box, size = (1.0625, 92.5625, 15.9375, 107.4375), (28, 28)
    left, upper, right, lower = box
    image, bilinear = Image.fromarray(picture), Image.Resampling.BILINEAR
    across = image.resize((28, 200), bilinear, box=(left, 0, right, 200))
    expected = np.asarray(across.resize((28, 28), bilinear, box=(0, upper, 28, lower)))
    np.testing.assert_array_equal(resampling.resample(image, box, size), expected)
    np.testing.assert_array_equal(resampler()(image, box, size), expected)


@pytest.mark.parametrize("size", [(375, 500), (3000, 4000)])
def test_a_picture_is_decoded_at_the_size_that_is_needed(size):
    height, width = size
    reductions = {(375, 500): {224: 1, 90: 2, 50: 4, 28: 8}, (3000, 4000): {224: 8, 384: 4, 700: 2, 2000: 1}}
    for side, reduction in reductions[size].items():
        geometry = images._geometry((width, height), Preparation(side, side))
        assert images._reduction(*geometry) == reduction


def test_a_large_photo_takes_a_fraction_of_the_time():
    content = encoded(photo(3000, 2000), "JPEG")

    def seconds(make):
        began = time.process_time()
        make(content, Preparation(64, 64))
        return time.process_time() - began

    assert min(seconds(decode) for _ in range(3)) < 0.7 * min(seconds(whole) for _ in range(3))


def test_the_thumbnail_of_a_damaged_photo_is_not_taken_for_it():
    content = encoded(photo(640, 480), "JPEG")
    with pytest.raises(images.DataError, match="not an image"):
        decode(content[: len(content) // 2], Preparation(8, 8))
