"""Accuracy counts as sorting would; sums do not depend on how the images are divided."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score

from runner.launch import workers
from runner.metrics import METRICS
from runner.metrics.names import find
from runner.parallel import ALONE, Ranks
from runner.parallel.sockets import Sockets
from runner.training import scores, sums


def drawn(seed, images, classes):
    """Logits with many ties, float32 [N, K], and labels of which classes may be missing, int64 [N]."""
    generator = np.random.default_rng(seed)
    logits = generator.integers(0, 4, (images, classes)).astype("float32")
    return logits, generator.integers(0, generator.integers(1, classes + 1), images)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 12), st.integers(1, 5))
def test_hits_equal_those_of_a_stable_sort(seed, rows, classes, k):
    generator = np.random.default_rng(seed)
    # Few distinct values, so that ties are frequent.
    logits = generator.integers(0, 4, (rows, classes)).astype("float32")
    labels = generator.integers(0, classes, rows)
    order = np.argsort(-logits, axis=-1, kind="stable")
    places = (order == labels[:, None]).argmax(axis=-1)
    expected = [(places < 1).sum(), (places < k).sum()]
    assert sums.correct(paddle.to_tensor(logits), paddle.to_tensor(labels), k).numpy().tolist() == expected
    # In another precision Paddle's operators count.
    assert sums.correct(paddle.to_tensor(logits).astype("float64"), paddle.to_tensor(labels), k).tolist() == expected


def test_a_network_that_returns_nan_is_never_right():
    for kind in ("float32", "float64"):
        logits = paddle.full([4, 10], float("nan"), kind)
        assert sums.correct(logits, paddle.to_tensor([0, 1, 2, 3]), 5).numpy().tolist() == [0, 0]
        assert sums.correct(logits, paddle.full([4, 10], 0.1), 5).numpy().tolist() == [0, 0]


def test_a_soft_label_counts_by_its_share_of_what_is_predicted():
    logits = paddle.to_tensor([[1.0, 3.0, 2.0, 0.0], [5.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]])
    labels = paddle.to_tensor([[0.0, 0.7, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0], [0.4, 0.0, 0.0, 0.6]])
    np.testing.assert_allclose(sums.correct(logits, labels, 2).numpy(), [0.7 + 0.6, 1.0 + 0.6], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 9), st.integers(1, 40))
def test_sums_are_the_same_for_any_size_of_a_batch(seed, images, classes, size):
    logits, labels = drawn(seed, images, classes)
    summed = sums.Summed(2)
    for begin in range(0, images, size):
        predicted = summed.add(
            paddle.to_tensor(logits[begin : begin + size]), paddle.to_tensor(labels[begin : begin + size])
        )
        assert predicted.numpy().tolist() == logits[begin : begin + size].argmax(axis=-1).tolist()
    [found] = sums.total([summed], ALONE)
    expected = confusion_matrix(labels, logits.argmax(axis=-1), labels=range(classes))
    np.testing.assert_array_equal(found.confusion, expected)
    assert found.confusion.dtype == np.int64
    assert (found.images, found.top1) == (images, np.trace(expected))
    assert found.topk >= found.top1


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["counted", "kept"])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("images", [1, 2, 47])
def test_several_processes_have_exactly_the_numbers_of_one(monkeypatch, world, images, kept):
    """A process without images, which does not know the number of classes, is among them."""
    monkeypatch.setattr(scores, "KEPT", kept)
    classes, networks = 7, 2
    logits, labels = drawn(images, images, classes)

    def summed(rank, count):
        parts = [sums.Summed(3, with_scores=True) for _ in range(networks)]
        for number, part in enumerate(parts):
            for begin in range(0, images, 10):
                rows = slice(begin, begin + 10)
                own_logits = np.roll(logits, number, axis=-1)[rows][rank::count]
                if len(own_logits):
                    part.add(paddle.to_tensor(own_logits), paddle.to_tensor(labels[rows][rank::count]))
        return parts

    alone = sums.total(summed(0, 1), ALONE)
    ends = workers._connected(world)
    ranks = [Ranks(rank, world, Sockets(rank, [end.detach() for end in own])) for rank, own in enumerate(ends)]
    with ThreadPoolExecutor(world) as pool:
        together = list(pool.map(sums.total, [summed(rank, world) for rank in range(world)], ranks))
    for found in together:
        for one, whole in zip(found, alone, strict=True):
            np.testing.assert_array_equal(one.confusion, whole.confusion)
            assert (one.top1, one.topk, one.images) == (whole.top1, whole.topk, whole.images)
            np.testing.assert_array_equal(one.scores.calibration, whole.scores.calibration)
            for metric in METRICS[:-1]:
                assert metric.compute(one) == metric.compute(whole) or images == 1


def test_a_network_that_returns_nan_is_counted_and_is_never_right():
    summed = sums.Summed(2)
    summed.add(paddle.full([3, 4], float("nan")), paddle.to_tensor([1, 2, 3]))
    [found] = sums.total([summed], ALONE)
    assert (found.images, found.top1, found.topk) == (3, 0, 0)
    assert math.isnan(found.loss)


def areas_of(logits, labels, size=16):
    summed = sums.Summed(2, with_scores=True)
    for begin in range(0, len(labels), size):
        rows = slice(begin, begin + size)
        summed.add(paddle.to_tensor(logits[rows]), paddle.to_tensor(labels[rows]))
    [found] = sums.total([summed], ALONE)
    return [find(name, METRICS).compute(found) for name in ("roc_auc", "average_precision", "calibration_error")]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0]))
def test_a_histogram_has_the_areas_of_the_probabilities_themselves(seed, scale):
    generator = np.random.default_rng(seed)
    # With few images the place of each of them would be a larger part of an area than a bin is.
    labels = generator.integers(0, 4, 2000)
    logits = (scale * (generator.normal(size=(2000, 4)) + np.eye(4)[labels])).astype("float32")
    exact = areas_of(logits, labels, 200)
    kept, scores.KEPT = scores.KEPT, 100
    try:
        counted = areas_of(logits, labels, 200)
    finally:
        scores.KEPT = kept
    assert counted == pytest.approx(exact, abs=2e-3)
    assert counted[2] == exact[2]


def test_probabilities_are_kept_or_counted_and_never_more_than_the_bound(monkeypatch):
    monkeypatch.setattr(scores, "KEPT", 100)
    summed = sums.Summed(2, with_scores=True)
    for _ in range(10):
        summed.add(paddle.rand([4, 5]), paddle.to_tensor([0, 1, 2, 3]))
        assert sum(part.size for part, _ in summed.scores.parts) <= 100
    assert summed.scores.histogram.sum() == 10 * 4 * 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(3, 9), st.integers(2, 8))
def test_accuracies_and_loss_are_those_of_scikit_learn_with_missing_classes(seed, images, classes, k):
    generator, k = np.random.default_rng(seed), min(k, classes - 1)
    logits = generator.normal(0, 3, (images, classes)).astype("float32")
    # Of equal logits scikit-learn takes the last class where here it is the first: equal ones are below all others.
    logits[:, -2:] = -20
    labels = generator.integers(0, generator.integers(1, classes - 1), images)
    summed = sums.Summed(min(k, classes - 2))
    summed.add(paddle.to_tensor(logits), paddle.to_tensor(labels))
    [whole] = sums.total([summed], ALONE)
    names = np.arange(classes)
    wide = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    top1, topk, loss = (find(name, METRICS).compute(whole) for name in ("top1", f"top{summed.k}", "loss"))
    assert top1 == accuracy_score(labels, wide.argmax(axis=1))
    if summed.k > 1:
        assert topk == pytest.approx(top_k_accuracy_score(labels, wide, k=summed.k, labels=names))
    assert loss == pytest.approx(log_loss(labels, wide, labels=names), rel=1e-5, abs=1e-6)
