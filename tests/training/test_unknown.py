"""The threshold of what is unknown: the lowest one from which on enough predictions are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.training import unknown

#: Confidences, few enough that some are equal, and whether each prediction is right.
PREDICTIONS = st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=60)


def arrays(pairs):
    confidences, is_right = zip(*pairs, strict=True)
    return np.array(confidences, dtype=np.float32) / 20, np.array(is_right)


@given(PREDICTIONS, st.floats(0.01, 1))
def test_it_is_the_lowest_that_reaches_the_accuracy(pairs, accuracy):
    confidences, is_right = arrays(pairs)
    threshold = unknown.best(confidences, is_right, accuracy)
    reaching = [value for value in np.unique(confidences) if is_right[confidences >= value].mean() >= accuracy]
    if not reaching:
        assert threshold is None
        return
    kept = confidences >= np.float32(threshold)
    assert np.array_equal(kept, confidences >= reaching[0])
    told = unknown.accepted(confidences, is_right, threshold)
    assert (told.coverage, told.accuracy) == (kept.mean(), is_right[kept].mean())
    assert told.accuracy >= accuracy


def test_a_threshold_is_half_way_between_two_confidences_and_nothing_where_all_are_good():
    confidences = np.array([0.5, 0.75, 1.0], dtype=np.float32)
    assert unknown.best(confidences, np.array([False, True, True]), 0.9) == 0.625
    assert unknown.best(confidences, np.array([True, True, True]), 1.0) == 0.0
    assert unknown.best(confidences, np.array([True, True, False]), 0.9) is None
    one, after = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    assert unknown.best(np.array([one, after]), np.array([False, True]), 1.0) == after


@pytest.mark.parametrize("confidences", [[], [np.nan, 0.5]])
def test_without_numbers_there_is_none(confidences):
    assert unknown.best(np.array(confidences, np.float32), np.ones(len(confidences), bool), 0.5) is None


def test_of_nothing_that_is_accepted_there_is_no_accuracy():
    assert unknown.accepted(np.array([0.5], np.float32), np.array([True]), 0.75) == unknown.Accepted(0.0, None)
