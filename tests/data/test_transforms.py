"""Batch transforms against the same thing done image by image."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner.data.transforms import Augmentation, Normalize
from runner.kernels import native


def config():
    return cfg.Data(image_size=8, mean=[0.5, 0.25, 0.75], std=[0.5, 0.25, 1.0])


def images(channels):
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_flip_and_cutout_equal_those_of_single_images(channels):
    chosen = cfg.Augment(crop_padding=2, flip=True, cutout=3)
    augmentation = Augmentation(config(), chosen, seed=4, epoch=2, size=6)
    batch, originals = augmentation(np.arange(6)).of(images(channels)), images(channels)
    assert augmentation.flips.any()
    assert not augmentation.flips.all()
    for index, original in enumerate(originals):
        padded = np.zeros((12, 12, channels), np.uint8)
        padded[2:10, 2:10] = original
        row, column = augmentation.offsets[index]
        expected = padded[row : row + 8, column : column + 8]
        if augmentation.flips[index]:
            expected = expected[:, ::-1]
        expected = expected.copy()
        top, left = augmentation.holes[index]
        expected[max(0, top) : max(0, top + 3), max(0, left) : max(0, left + 3)] = augmentation.fill[:channels]
        np.testing.assert_array_equal(batch[index], expected.transpose(2, 0, 1))


def test_without_augmentation_images_stay():
    augmentation = Augmentation(config(), cfg.Augment(), seed=4, epoch=2, size=6)
    np.testing.assert_array_equal(augmentation(np.arange(6)).of(images(3)), images(3).transpose(0, 3, 1, 2))


def test_normalisation_divides_by_255_before_mean_and_deviation():
    chosen = config()
    expected = ((images(3) / 255 - np.array(chosen.mean)) / np.array(chosen.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(Normalize(chosen)(images(3), np.arange(6)).numpy(), expected, atol=1e-5)


def test_grey_images_get_three_channels():
    assert list(Normalize(config())(images(1), np.arange(6)).shape) == [6, 3, 8, 8]


@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 3, 4]), st.integers(0, 9), st.booleans(), st.integers(0, 9), st.integers(1, 150),
    st.integers(1, 40), st.integers(0, 99),
)  # fmt: skip
def test_the_compiled_pass_gives_the_same_bits(channels, padding, flip, cutout, width, batch, seed):
    chosen = cfg.Augment(crop_padding=padding, flip=flip, cutout=cutout)
    data = cfg.Data(image_size=[5, width], mean=[0.5, 0.25, 0.75, 0.1], std=[0.5, 0.25, 1.0, 0.3])
    if channels != 4:
        data.mean, data.std = data.mean[:3], data.std[:3]
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 256, (50, 5, width, channels), dtype=np.uint8)
    places = generator.integers(0, 50, batch)
    changes, normalize = Augmentation(data, chosen, seed, 0, 50)(places), Normalize(data)
    plain = normalize.pixels(paddle.to_tensor(changes.of(pictures[places]))).numpy()
    np.testing.assert_array_equal(normalize._compiled(pictures, places, changes).numpy(), plain)


def test_every_crop_offset_occurs():
    offsets = Augmentation(config(), cfg.Augment(crop_padding=2), seed=0, epoch=0, size=1000).offsets
    assert set(np.unique(offsets)) == set(range(5))
