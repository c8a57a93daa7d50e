"""The threshold of a label has the highest F1 that any has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from runner.metrics import Scores
from runner.training import thresholds
from runner.training.scores import rankings


def best(probabilities, labels):
    values = [np.unique(column) for column in probabilities.T]
    return thresholds.best(Scores(rankings(probabilities, labels), np.zeros((15, 3)), values))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 4), st.sampled_from([3, 1000]))
def test_no_other_threshold_has_a_higher_f1(seed, images, classes, levels):
    generator = np.random.default_rng(seed)
    probabilities = (generator.integers(0, levels + 1, (images, classes)) / levels).astype(np.float32)
    labels = (generator.random((images, classes)) < 0.4).astype(np.int64)
    for label, threshold in enumerate(best(probabilities, labels)):
        own, truth = probabilities[:, label], labels[:, label]
        assert threshold == np.float32(threshold)
        if not truth.any():
            assert threshold == thresholds.USUAL
            continue
        scores = [f1_score(truth, own >= value, zero_division=0) for value in own]
        assert f1_score(truth, own >= np.float32(threshold), zero_division=0) == pytest.approx(max(scores))


def test_it_is_half_way_between_what_it_parts():
    probabilities = np.float32([[0.125], [0.25], [0.75], [0.875]])
    assert best(probabilities, np.array([[0], [0], [1], [1]])) == [0.5]
    assert best(probabilities, np.array([[0], [1], [1], [1]])) == [0.1875]


def test_of_equal_ones_it_is_the_one_nearest_to_a_half():
    probabilities = np.float32([[0.1], [0.3], [0.5], [0.7]])
    # From 0.3 or from 0.7 on, F1 is 2/3.
    labels = np.array([[0], [1], [0], [1]])
    assert best(probabilities, labels) == [pytest.approx(0.2)] or best(probabilities, labels) == [pytest.approx(0.6)]


def test_neighbours_with_nothing_between_are_parted_too():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    [threshold] = best(np.array([[low], [high]]), np.array([[0], [1]]))
    assert low < np.float32(threshold) <= high


def test_between_bins_it_is_the_lower_end_of_the_upper_one():
    # Probabilities are somewhere in their bins: half way between the ends of two would part the lower bin.
    ends = np.float32([0.25, 0.5, 0.625])
    ranking = [(np.array([0, 0, 9]), np.array([5, 7, 0]))]
    assert thresholds.best(Scores(ranking, np.zeros((15, 3)), [ends], in_bins=True)) == [0.625]
