"""How images are divided."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.labels import first_of_each_class, stratified_split
from runner.errors import DataError


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(20, 300), st.integers(2, 6), st.floats(0.05, 0.5))
def test_a_stratified_split_holds_out_each_class_in_proportion(seed, size, classes, fraction):
    labels = np.random.default_rng(seed).integers(0, classes, size)
    try:
        kept, held_out = stratified_split(labels, fraction, seed)
    except DataError:
        assert np.bincount(labels)[np.unique(labels)].min() <= 2 / fraction
        return
    assert sorted([*kept, *held_out]) == list(range(size))
    assert len(held_out) == np.ceil(round(fraction * size, 6))
    shares = np.bincount(labels, minlength=classes) * len(held_out) / size
    counts = np.bincount(labels, minlength=classes)
    assert set(labels[kept]) == set(labels)
    # Where a class has hardly more images than its share, others give more.
    if (counts[counts > 0] > shares[counts > 0] + 1).all():
        assert (abs(np.bincount(labels[held_out], minlength=classes) - shares) <= 1).all()


def test_a_split_is_a_function_of_its_seed():
    labels = np.arange(100) % 10
    first, again, other = (stratified_split(labels, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_split_that_leaves_a_class_without_images_is_refused():
    with pytest.raises(DataError, match="data.val_fraction"):
        stratified_split(np.array([0, 0, 1]), 0.9, 0)


def test_a_class_of_one_image_keeps_it():
    labels = np.repeat(np.arange(8), [1, 1, 1, 1, 1, 1, 1, 50])
    kept, held_out = stratified_split(labels, 0.2, 0)
    assert len(held_out) == 12
    assert set(labels[kept]) == set(range(8))


def test_a_class_that_is_too_small_is_named():
    with pytest.raises(DataError, match="none of class eel, which has 1, to train on"):
        stratified_split(np.array([0, 0, 1]), 0.9, 0, ["cat", "eel"])


def test_a_small_limit_has_all_classes():
    labels = np.repeat(np.arange(5), 20)
    assert sorted(labels[first_of_each_class(labels, 10)]) == sorted([*range(5), *range(5)])
