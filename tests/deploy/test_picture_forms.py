"""Pictures in every form that a program has them in, and what is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from runner.deploy.picture_forms import prepared
from runner.errors import DataError
from runner.images import Preparation
from runner.images.resampling import resize_all

COLOUR = Preparation(8, 8)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


def test_every_form_gives_the_same_pixels(path):
    content = path.read_bytes()
    forms = [
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        path.open("rb"),
        PIXELS,
    ]
    for form in forms:
        assert np.array_equal(prepared(form, COLOUR), prepared(Image.fromarray(PIXELS), COLOUR)), type(form)


@pytest.mark.parametrize("value", [None, 0, 3.5, [PIXELS], {"a": 1}])
def test_what_is_no_picture_is_named_by_its_type(value):
    with pytest.raises(DataError, match=rf"A value of type {type(value).__name__} is not a picture\. Give a path"):
        prepared(value, COLOUR)


def test_a_file_that_reads_text_is_not_a_picture():
    with pytest.raises(DataError, match=r"What a StringIO reads is not a picture.*'rb'"):
        prepared(io.StringIO("text"), COLOUR)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(0, 10), (10, 0), (0, 0)])
def test_what_has_no_pixels_is_unreadable(shape, resize):
    preparation = Preparation(8, 8, resize=resize)
    for empty in (Image.new("RGB", shape), np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)):
        with pytest.raises(DataError, match="it has no pixels"):
            prepared(empty, preparation)


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_arrays_of_other_channels_are_scaled_as_in_evaluation(channels, path):
    preparation = Preparation(8, 6, channels)
    array = np.random.default_rng(1).integers(0, 256, (12, 10, channels), dtype=np.uint8)
    assert np.array_equal(prepared(array, preparation), resize_all(array[None], (8, 6))[0])
    fitting = array[:8, :6]
    assert np.array_equal(prepared(fitting, preparation), fitting)
    for other in (array[..., 0], array[..., :1], array.astype(float), np.dstack([array, array])):
        with pytest.raises(DataError, match=rf"pictures are uint8 \[H, W, {channels}\]"):
            prepared(other, preparation)
    with pytest.raises(DataError, match="no pixels"):
        prepared(array[:0], preparation)
    for file in (path, path.read_bytes(), Image.fromarray(PIXELS)):
        with pytest.raises(DataError, match=rf"images of {channels} channels.*Run\.predict"):
            prepared(file, preparation)
