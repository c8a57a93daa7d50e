"""Sums and metrics of images with many labels are scikit-learn's, for any batches and any number of processes."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from runner.launch import workers
from runner.metrics import MANY, Sums, of_classes
from runner.metrics.names import find
from runner.parallel import ALONE, Ranks
from runner.parallel.sockets import Sockets
from runner.training import scores, sums
from runner.training.evaluation import undefined


def drawn(seed, images, classes, share=0.4):
    """Logits with ties, float32 [N, K], and labels uint8 [N, K], of which images and classes may have none."""
    generator = np.random.default_rng(seed)
    logits = generator.integers(-4, 5, (images, classes)).astype("float32")
    return logits, (generator.random((images, classes)) < share).astype(np.uint8)


def summed(logits, labels, size, thresholds=None):
    part = sums.Summed(5, with_scores=True, thresholds=thresholds)
    for begin in range(0, len(labels), size):
        rows = slice(begin, begin + size)
        part.add(paddle.to_tensor(logits[rows]), paddle.to_tensor(labels[rows]))
    return part


def values(found):
    return {metric.name: metric.compute(found) for metric in MANY}


def calibration_error(labels, probabilities):
    """Over 15 bins: shares of decisions times the difference of their mean probability and how many are present."""
    places = np.ceil(probabilities * 15).clip(1) - 1
    chosen = [places == place for place in np.unique(places)]
    return sum(one.mean() * abs(labels[one].mean() - probabilities[one].mean()) for one in chosen)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 7), st.integers(1, 40), st.booleans())
def test_every_metric_is_that_of_scikit_learn(seed, images, classes, size, with_thresholds):
    logits, labels = drawn(seed, images, classes)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    thresholds = np.random.default_rng(seed).random(classes).tolist() if with_thresholds else [0.5] * classes
    [found] = sums.total([summed(logits, labels, size, thresholds)], ALONE)
    predicted = (probabilities >= thresholds).astype(int)
    own = values(found)
    np.testing.assert_array_equal(found.confusion, reference.multilabel_confusion_matrix(labels, predicted))
    occurring = np.flatnonzero(labels.any(axis=0))
    varying = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    assert found.images == images
    assert own["hamming_loss"] == pytest.approx(reference.hamming_loss(labels, predicted))
    assert own["subset_accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert own["micro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="micro", zero_division=0))
    assert own["loss"] == pytest.approx(reference.log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]))
    each = reference.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for mine, theirs in zip(vars(of_classes(found.confusion)).values(), each, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert own["calibration_error"] == pytest.approx(calibration_error(labels.ravel(), probabilities.ravel()), abs=1e-6)
    if len(occurring):
        macro = {"labels": occurring, "average": "macro", "zero_division": 0}
        assert own["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, **macro))
        assert own["macro_precision"] == pytest.approx(reference.precision_score(labels, predicted, **macro))
        assert own["balanced_accuracy"] == pytest.approx(reference.recall_score(labels, predicted, **macro))
        precision = reference.average_precision_score(
            labels[:, occurring], probabilities[:, occurring], average="macro"
        )
        assert own["average_precision"] == pytest.approx(precision)
    if len(varying):
        area = reference.roc_auc_score(labels[:, varying], probabilities[:, varying], average="macro")
        assert own["roc_auc"] == pytest.approx(area)


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["counted", "kept"])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("images", [1, 47])
def test_several_processes_have_exactly_the_numbers_of_one(monkeypatch, world, images, kept):
    """A process without images, which does not know that there are many labels, is among them."""
    monkeypatch.setattr(scores, "KEPT", kept)
    # As many matrices of four numbers as one of all pairs has.
    logits, labels = drawn(images, images, 4, 0.7)
    alone = sums.total([summed(logits, labels, 10)], ALONE)[0]
    ends = workers._connected(world)
    ranks = [Ranks(rank, world, Sockets(rank, [end.detach() for end in own])) for rank, own in enumerate(ends)]
    parts = [[summed(logits[rank::world], labels[rank::world], 10)] for rank in range(world)]
    with ThreadPoolExecutor(world) as pool:
        together = [found for [found] in pool.map(sums.total, parts, ranks)]
    for found in together:
        np.testing.assert_array_equal(found.confusion, alone.confusion)
        assert found.top1 == alone.top1
        for metric in MANY[:-1]:
            assert metric.compute(found) == metric.compute(alone) or images == 1
        for one, whole in zip(found.scores.values, alone.scores.values, strict=True):
            np.testing.assert_array_equal(one, whole)


def test_a_histogram_has_the_mean_average_precision_of_the_probabilities_themselves(monkeypatch):
    generator = np.random.default_rng(3)
    labels = (generator.random((300, 5)) < 0.3).astype(np.uint8)
    logits = (generator.normal(size=(300, 5)) + 2.0 * labels).astype("float32")
    [exact] = sums.total([summed(logits, labels, 32)], ALONE)
    monkeypatch.setattr(scores, "KEPT", 100)
    [counted] = sums.total([summed(logits, labels, 32)], ALONE)
    assert counted.scores.ranking[0][0].sum() == labels[:, 0].sum()
    for name in ("average_precision", "roc_auc"):
        assert find(name, MANY).compute(counted) == pytest.approx(find(name, MANY).compute(exact), abs=2e-3)


def test_training_counts_whole_images_and_wrong_labels():
    logits, labels = drawn(5, 30, 4)
    predicted = (logits >= 0).astype(np.uint8)
    exact, wrong = sums.correct(paddle.to_tensor(logits), paddle.to_tensor(labels), 5).numpy()
    assert exact == (predicted == labels).all(axis=1).sum()
    assert wrong == pytest.approx((predicted != labels).mean(axis=1).sum())


def test_a_network_that_returns_nan_has_no_scores_and_predicts_nothing():
    part = sums.Summed(2, with_scores=True)
    predicted = part.add(paddle.full([3, 4], float("nan")), paddle.to_tensor(np.ones((3, 4), np.uint8)))
    assert not predicted.numpy().any()
    [found] = sums.total([part], ALONE)
    assert all(math.isnan(find(name, MANY).compute(found)) for name in ("average_precision", "roc_auc", "loss"))


def test_without_images_nothing_is_a_number():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(math.isnan(value) for value in values(Sums(np.zeros((3, 2, 2), np.int64), 0.0, 0, 0)).values())


def test_the_metrics_are_tried_with_matrices_as_they_will_be():
    seen = []

    def compute(found):
        seen.append(found.confusion)
        return 0.0

    metric = find("micro_f1", MANY)
    undefined([metric, type(metric)("own", "own", metric.goal, compute)], np.eye(3, dtype=np.uint8), 3)
    assert seen[0].tolist() == [[[2, 0], [0, 1]]] * 3


def test_metrics_of_rankings_are_undefined_on_labels_that_no_image_or_every_image_has():
    assert undefined(MANY, np.array([[0, 1], [0, 1]], np.uint8), 2) == ["roc_auc"]
    assert undefined(MANY, np.array([[0, 0], [0, 0]], np.uint8), 2) == [
        "average_precision",
        "macro_f1",
        "macro_precision",
        "balanced_accuracy",
        "roc_auc",
    ]
    assert undefined(MANY, np.array([[0, 1], [1, 1]], np.uint8), 2) == []
