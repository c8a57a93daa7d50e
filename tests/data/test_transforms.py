"""Batch transforms against the same thing done image by image."""

from __future__ import annotations

import numpy as np
import pytest

from runner import config as cfg
from runner.data.transforms import Augmentation, Normalize


def config(channels_mean=(0.5, 0.25, 0.75), **augment):
    return cfg.Data(image_size=8, mean=list(channels_mean), std=[0.5, 0.25, 1.0], augment=cfg.Augment(**augment))


def images(channels):
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_flip_and_cutout_equal_those_of_single_images(channels):
    settings = config(crop_padding=2, flip=True, cutout=3)
    augmentation = Augmentation(settings, seed=4, epoch=2, size=6)
    batch, originals = augmentation(images(channels), np.arange(6)), images(channels)
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
    augmentation = Augmentation(config(), seed=4, epoch=2, size=6)
    np.testing.assert_array_equal(augmentation(images(3), np.arange(6)), images(3).transpose(0, 3, 1, 2))


def test_normalisation_divides_by_255_before_mean_and_deviation():
    settings = config()
    batch = images(3).transpose(0, 3, 1, 2)
    expected = (batch / 255 - np.array(settings.mean)[:, None, None]) / np.array(settings.std)[:, None, None]
    np.testing.assert_allclose(Normalize(settings)(batch).numpy(), expected, atol=1e-5)


def test_grey_images_get_three_channels():
    assert list(Normalize(config())(images(1).transpose(0, 3, 1, 2)).shape) == [6, 3, 8, 8]


def test_every_crop_offset_occurs():
    offsets = Augmentation(config(crop_padding=2), seed=0, epoch=0, size=1000).offsets
    assert set(np.unique(offsets)) == set(range(5))
