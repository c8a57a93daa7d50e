"""Mixup and CutMix: who is mixed with whom, by how much, and that pictures and labels say the same."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data
from runner.data.augment import mix
from runner.data.transforms import mixed
from runner.kernels import native

BOTH = cfg.Augment(mixup=0.4, cutmix=1.0, mix_probability=0.8)
COUNT, SIZE = 20_000, (20, 30)


def drawn(**keys):
    return mix.draw(cfg.Augment(**keys), 3, 1, COUNT, SIZE)


@given(st.integers(1, 70), st.integers(1, 5))
def test_any_number_of_processes_pairs_the_same_images(size, world):
    alone = mix.pairs(size, 0, 1)
    partners = dict(zip(range(size), alone.rows[alone.partners], strict=True))
    for rank in range(world):
        pair = mix.pairs(size, rank, world)
        own = range(rank, size, world)
        assert pair.rows[: len(own)].tolist() == list(own)
        assert [partners[row] for row in own] == pair.rows[pair.partners].tolist()
        if size % 8 == 0 and size > 8 and 8 % world == 0:
            assert len(pair.rows) == len(own)
    assert sorted(partners.values()) == list(range(size))
    assert size == 1 or all(row != other for row, other in partners.items())


def test_mixup_draws_parts_from_the_beta_distribution_for_whole_images():
    mixing = drawn(mixup=0.4)
    assert (mixing.boxes == [0, 0, *SIZE]).all()
    assert abs(mixing.shares.mean() - 0.5) < 0.01
    # The variance of Beta(α, α) is 1 / (4 (2α + 1)).
    assert abs(mixing.shares.var() - 1 / (4 * 1.8)) < 0.005


def test_cutmix_cuts_rectangles_of_the_image_s_shape_and_counts_what_is_within():
    mixing = drawn(cutmix=1.0)
    top, left, bottom, right = mixing.boxes.T
    assert ((top >= 0) & (left >= 0) & (bottom <= SIZE[0]) & (right <= SIZE[1])).all()
    assert ((bottom >= top) & (right >= left)).all()
    np.testing.assert_allclose(mixing.shares, 1 - (bottom - top) * (right - left) / 600, rtol=0, atol=1e-12)
    whole = (top > 0) & (left > 0) & (bottom < SIZE[0]) & (right < SIZE[1]) & (bottom - top > 8)
    assert abs(((right - left)[whole] / (bottom - top)[whole]).mean() - 1.5) < 0.05


def test_the_switch_and_the_probability_are_those_that_are_asked_for():
    mixing = drawn(mixup=1.0, cutmix=1.0, mix_switch=0.3, mix_probability=0.6)
    changed = mixing.boxes.any(axis=1)
    assert abs(changed.mean() - 0.6) < 0.01
    assert abs((mixing.blends[changed] == 0).mean() - 0.3) < 0.015
    assert (mixing.shares[~changed] == 1).all()


def test_the_last_epochs_are_not_mixed_and_off_is_off():
    chosen = cfg.Augment(mixup=0.2, mix_off_epochs=2)
    assert [mix.probability(chosen, epoch, 5) for epoch in range(5)] == [1, 1, 1, 0, 0]
    assert mix.probability(chosen, 9, None) == 1
    assert mix.probability(cfg.Augment(), 0, None) == 0
    assert mix.probability(cfg.Augment(mixup=0.2, enabled=False), 0, None) == 0
    assert mix.probability(cfg.Augment(cutmix=1.0, mix_probability=0.0), 0, None) == 0


def test_the_probability_changes_evenly_until_the_last_epoch_that_is_mixed():
    fades = cfg.Augment(mixup=0.2, mix_probability=0.8, mix_last_probability=0.2, mix_off_epochs=2)
    assert [mix.probability(fades, epoch, 6) for epoch in range(6)] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0])
    assert mix.probability(fades, 0, 3) == 0.8
    rises = cfg.Augment(cutmix=1.0, mix_probability=0.0, mix_last_probability=1.0)
    assert [mix.probability(rises, epoch, 3) for epoch in range(3)] == [0, 0.5, 1]
    # Whoever is mixed at the smaller probability is so at the larger one, in the same way.
    mixings = [mix.draw(fades, 3, 1, COUNT, SIZE, epochs) for epochs in (4, 6)]
    rows = mixings[0].boxes.any(axis=1)
    shares = [mixing.boxes.any(axis=1).mean() for mixing in mixings]
    assert shares == pytest.approx([0.2, 0.6], abs=0.01)
    assert (mixings[0].boxes[rows] == mixings[1].boxes[rows]).all()


def by_hand(images, mixing, row, other):
    """One mixed image, float32 [C, H, W]."""
    image = images[row].copy()
    top, left, bottom, right = mixing.boxes[row]
    own = mixing.blends[row]
    part = image[:, top:bottom, left:right] * own + images[other][:, top:bottom, left:right] * (1 - own)
    image[:, top:bottom, left:right] = part
    return image


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(0, 99))
def test_pictures_are_blended_within_their_boxes(count, channels, width, seed):
    images = np.random.default_rng(seed).normal(size=(count, channels, 7, width)).astype(np.float32)
    mixing, partners = mix.draw(BOTH, seed, 0, count, (7, width)), mix.pairs(count, 0, 1).partners
    expected = np.stack([by_hand(images, mixing, row, partners[row]) for row in range(count)])
    np.testing.assert_array_equal(mixed(paddle.to_tensor(images), partners, mixing).numpy(), expected)


@pytest.mark.parametrize("reason", ["", "no compiler"])
def test_without_kernels_pictures_are_the_same(monkeypatch, reason):
    images = np.random.default_rng(0).normal(size=(12, 3, 9, 14)).astype(np.float32)
    mixing, partners = mix.draw(BOTH, 5, 0, 12, (9, 14)), mix.pairs(12, 0, 1).partners
    expected = np.stack([by_hand(images, mixing, row, partners[row]) for row in range(12)])
    if reason:
        monkeypatch.setattr(native, "unavailable", lambda: reason)
    np.testing.assert_array_equal(mixed(paddle.to_tensor(images), partners, mixing).numpy(), expected)


def test_labels_have_the_shares_of_both_classes_and_add_up_to_one():
    labels = np.array([2, 0, 0])
    soft = mix.targets(labels, np.array([1, 2, 0]), np.array([0.25, 0.3, 0.9]), 4)
    np.testing.assert_array_equal(soft, np.array([[0.75, 0, 0.25, 0], [1, 0, 0, 0], [0.9, 0, 0.1, 0]], np.float32))
    assert soft.dtype == np.float32


def shades(batch_size=16, rank=0, world=1, **keys):
    """A loader of plain pictures whose class is their value: a picture's pixels say what its label has to be."""
    config = cfg.Synthetic(
        train_images=44, val_fraction=0.0, batch_size=batch_size, image_size=10, mean=[0.0] * 3, std=[1 / 255] * 3
    )
    labels = np.arange(44) % 5
    images = np.broadcast_to(labels[:, None, None, None], (44, 10, 10, 3)).astype(np.uint8)
    split = data.Images(images, labels)
    source = data.Source("shades", list("abcde"), split, split, split)
    return data.build(config, 7, rank=rank, world=world, source=source, augment=cfg.Augment(**keys)).train


MIXED = pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}], ids=str)


@MIXED
def test_a_label_says_what_its_picture_shows(keys):
    classes = np.arange(5)
    for batch in shades(**keys).epoch(0):
        values = batch.images.numpy().mean(axis=(1, 2, 3))
        labels = batch.labels.numpy()
        np.testing.assert_allclose(labels @ classes, values, atol=1e-5)
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        assert (labels.max(axis=1) < 1).any()


@MIXED
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_make_the_pictures_of_one(keys, world):
    def by_index(loaders):
        return {
            int(index): (image, label)
            for loader in loaders
            for batch in loader.epoch(2)
            for index, image, label in zip(batch.indices, batch.images.numpy(), batch.labels.numpy(), strict=True)
        }

    alone = by_index([shades(**keys)])
    shared = by_index([shades(rank=rank, world=world, **keys) for rank in range(world)])
    assert alone.keys() == shared.keys()
    for index, pair in alone.items():
        for one, other in zip(pair, shared[index], strict=True):
            np.testing.assert_array_equal(one, other)


def test_labels_are_plain_again_in_the_last_epochs():
    loader = shades(mixup=0.4, mix_off_epochs=1)
    loader.epochs = 3
    labels = [next(iter(loader.epoch(epoch))).labels.numpy() for epoch in range(3)]
    assert [one.ndim for one in labels] == [2, 2, 2]
    assert [bool((one.max(axis=1) == 1).all()) for one in labels] == [False, False, True]


def test_a_loader_mixes_fewer_and_fewer_images():
    loader = shades(mixup=0.4, mix_last_probability=0.0)
    loader.epochs = 5
    shares = [
        np.mean([(label.max() < 1) for batch in loader.epoch(epoch) for label in batch.labels.numpy()])
        if epoch < 4 else loader._mixing(epoch) is not None
        for epoch in range(5)
    ]  # fmt: skip
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.6
    assert not shares[4]
