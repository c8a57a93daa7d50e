"""A change of the user's own: what it is given, and what becomes of what it returns."""

from __future__ import annotations

import numpy as np
import pytest

from runner import config as cfg
from runner import data
from runner.errors import ConfigError

CODE = """
import numpy as np

def noisy(image, generator, strength=10):
    assert image.dtype == np.uint8 and image.ndim == 3
    image[:] = 0  # A copy: the set keeps its own.
    return image + generator.integers(0, strength, image.shape).astype(np.uint8)

def floating(image, generator):
    return image / 2

def smaller(image, generator):
    return image[1:]

def broken(image, generator):
    raise ValueError("no such thing")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The working directory with the user's module."""
    (tmp_path / "my_changes.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def seen(augment, batch_size=8, epoch=1):
    config = cfg.Synthetic(
        image_size=6, train_images=20, val_fraction=0, batch_size=batch_size, mean=[0.0] * 3, std=[1 / 255] * 3
    )
    loader = data.build(config, 0, augment=augment).train
    batches = list(loader.epoch(epoch))
    images = {
        int(i): np.round(one) for batch in batches for i, one in zip(batch.indices, batch.images.numpy(), strict=True)
    }
    return images, loader


def test_every_image_gets_numbers_of_its_own_whatever_batch_it_is_in(own):
    augment = cfg.Augment(target="my_changes:noisy", kwargs={"strength": 30})
    images, loader = seen(augment)
    assert loader.split.images.max() > 30
    assert 25 < max(image.max() for image in images.values()) < 30
    others, _ = seen(augment, batch_size=5)
    assert images.keys() == others.keys()
    for index, image in images.items():
        np.testing.assert_array_equal(image, others[index])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], seen(augment, epoch=2)[0][0])


def test_other_changes_come_after_it(own):
    images, _ = seen(cfg.Augment(target="my_changes:noisy", invert=1.0))
    assert min(image.min() for image in images.values()) > 255 - 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("floating", r"augment.target=my_changes:floating returned float64 \[6, 6, 3\]. It is given an image"),
        ("smaller", r"returned uint8 \[5, 6, 3\]"),
        ("broken", "augment.target=my_changes:broken raised ValueError: no such thing"),
        ("nothing", "'my_changes' has no 'nothing'"),
    ],
)
def test_a_function_that_returns_no_image_is_one_message_that_says_what_it_should(own, name, message):
    with pytest.raises(ConfigError, match=message):
        seen(cfg.Augment(target=f"my_changes:{name}"))
