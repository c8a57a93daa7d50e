"""Curves are scikit-learn's, drawn with fewer points that lie on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve

from runner.metrics import CALIBRATION_BINS, CONFIDENCE_UNIT, Scores
from runner.training import curves
from runner.training.scores import rankings


def drawn(seed, images=60, classes=2, levels=9):
    """Probabilities with many equal ones, float32 [N, K], and labels of which all classes have some."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.integers(0, levels, (images, classes)) / levels
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, images - classes)])
    exponentials = np.exp(logits + np.eye(classes)[labels])
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype("float32"), labels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_curves_are_those_of_scikit_learn(seed, classes):
    probabilities, labels = drawn(seed, classes=classes)
    for label, (own, others) in enumerate(rankings(probabilities, labels)):
        false, true, _ = roc_curve(labels == label, probabilities[:, label], drop_intermediate=False)
        np.testing.assert_allclose(curves.roc(own, others), np.stack([false, true], axis=1))
        precision, recall, _ = precision_recall_curve(labels == label, probabilities[:, label])
        # It has no threshold for the last one, a recall of 0.
        expected = np.stack([recall, precision], axis=1)[-2::-1]
        np.testing.assert_allclose(curves.precision_recall(own, others)[: len(expected)], expected)


def test_empty_bins_of_a_histogram_are_no_points():
    own, others = np.array([0, 1, 0, 2, 0]), np.array([3, 0, 0, 1, 0])
    np.testing.assert_allclose(curves.precision_recall(own, others), [[2 / 3, 2 / 3], [1, 3 / 4], [1, 3 / 7]])
    assert len(curves.roc(own, others)) == 4


def test_a_thinned_curve_has_few_points_of_the_whole_one_and_its_ends():
    whole = curves.roc(*rankings(*drawn(3, 5000, levels=100_000))[0])
    points = curves._thinned(whole)
    assert len(points) <= curves.POINTS < len(whole)
    assert points[0] == [0, 0]
    assert points[-1] == [1, 1]
    # No place of the whole curve is far from a point that is left.
    distances = np.abs(whole[:, None] - np.array(points)[None]).sum(axis=-1).min(axis=1)
    assert distances.max() < 2.5 / curves.POINTS


def test_the_classes_that_are_told_from_others_worst_have_curves_and_those_without_images_none(monkeypatch):
    monkeypatch.setattr(curves, "CLASSES", 2)
    nothing = np.zeros((CALIBRATION_BINS, 3), dtype=np.int64)
    sure, unsure, wrong = ((np.array([0, 2]), np.array([2, 0])), (np.array([2]), np.array([2])),
                           (np.array([2, 0]), np.array([0, 2])))  # fmt: skip
    without, alone = (np.array([0]), np.array([4])), (np.array([4]), np.array([0]))
    found = curves.of_classes(Scores([sure, without, unsure, wrong, alone], nothing))
    assert [one["label"] for one in found] in ([2, 3], [3, 2])
    assert curves.of_classes(Scores([], nothing)) == []


def test_reliability_is_of_the_bins_that_have_images():
    table = np.zeros((CALIBRATION_BINS, 3), dtype=np.int64)
    table[3] = [4, 1, round(4 * 0.25 / CONFIDENCE_UNIT)]
    table[14] = [10, 10, round(10 * 0.975 / CONFIDENCE_UNIT)]
    found = curves.reliability(Scores([], table))
    assert found == [[4, 0.25, pytest.approx(0.25)], [10, 1, pytest.approx(0.975)]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5))
def test_curves_of_all_labels_are_scikit_learn_s_of_every_decision(seed, images, classes):
    generator = np.random.default_rng(seed)
    # Few values, so that some are equal.
    probabilities = generator.integers(0, 12, (images, classes)).astype(np.float32) / 12
    labels = generator.integers(0, 2, (images, classes)).astype(np.uint8)
    found = Scores(
        rankings(probabilities, labels.astype(np.int64)), np.zeros((15, 3)),
        [np.unique(column) for column in probabilities.T],
    )  # fmt: skip
    points = curves.of_all_labels(found)
    if labels.all() or not labels.any():
        assert points == {}
        return
    false, true, _ = roc_curve(labels.ravel(), probabilities.ravel(), drop_intermediate=False)
    _, own, others = curves._pooled(found)
    np.testing.assert_allclose(curves.roc(own, others), np.stack([false, true], axis=1), atol=1e-12)
    assert points["roc"][-1] == [1, 1]
    precision, recall, _ = precision_recall_curve(labels.ravel(), probabilities.ravel())
    expected = np.stack([recall, precision], axis=1)[-2::-1]
    np.testing.assert_allclose(curves.precision_recall(own, others), expected, atol=1e-12)
    assert points["precision_recall"][-1] == expected[-1].round(4).tolist()
