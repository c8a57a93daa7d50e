"""Batches that a thread makes ahead, as on a GPU; the thread, the queue and the tensors are the same on a CPU."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from runner import config as cfg
from runner import data, device
from runner.data.prefetch import AHEAD, prefetched
from runner.errors import DataError


def numbers(count, made=None):
    for number in range(count):
        if made is not None:
            made.append(number)
        yield np.full((2, 3), number, dtype=np.uint8), np.arange(2) + number


def test_batches_come_in_order_and_keep_their_types():
    for number, (pixels, labels) in enumerate(prefetched(numbers(9))):
        np.testing.assert_array_equal(pixels.numpy(), np.full((2, 3), number, dtype=np.uint8))
        assert pixels.numpy().dtype == np.uint8
        assert labels.numpy().tolist() == [number, number + 1]
    assert number == 8


def test_an_error_comes_in_its_turn_as_it_was_raised():
    def broken():
        yield from numbers(3)
        raise DataError("image 4 is torn")

    seen = []
    with pytest.raises(DataError, match="image 4 is torn"):
        seen.extend(int(labels[0]) for _, labels in prefetched(broken()))
    assert seen == [0, 1, 2]


def test_only_a_few_batches_are_made_ahead_and_the_thread_of_an_abandoned_epoch_ends():
    made, before = [], threading.active_count()
    batches = prefetched(numbers(1000, made))
    next(batches)
    batches.close()
    assert len(made) <= 2 * AHEAD + 3
    for thread in threading.enumerate():
        if thread.name.startswith("Thread") and thread is not threading.main_thread():
            thread.join(5)
    assert threading.active_count() <= before


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    list(prefetched(numbers(2)))
    assert np.random.random() == expected


@pytest.mark.parametrize(
    "augment",
    [
        cfg.Augment(crop_padding=2, flip=True, cutout=4),
        cfg.Augment(crop_scale=[0.2, 1], flip=True, hue=0.1, policy=cfg.Policy.trivial, erasing=0.5),
    ],
    ids=["simple", "program"],
)
def test_a_loader_gives_the_same_batches_either_way(monkeypatch, augment):
    config = cfg.Synthetic(
        train_images=70, test_images=20, image_size=16, batch_size=16, val_fraction=0.0
    )  # fmt: skip
    loaders = data.build(config, seed=3, augment=augment)

    def seen(loader):
        return [(batch.images.numpy(), batch.labels.numpy(), batch.indices, batch.global_size) for batch in loader]

    direct = seen(loaders.train.epoch(1, 2)), seen(loaders.test)
    monkeypatch.setattr(device, "is_cpu", lambda: False)
    for one, other in zip(direct, (seen(loaders.train.epoch(1, 2)), seen(loaders.test)), strict=True):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            for expected, found in zip(left, right, strict=True):
                np.testing.assert_array_equal(found, expected)
