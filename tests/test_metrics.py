"""The metrics of the list are those of scikit-learn, of any labels and predictions, and have one name each."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from runner import metrics
from runner.metrics import HEADLINE, METRICS, Goal, Metric, Sums


def sums_of(labels, predicted, classes):
    matrix = confusion_matrix(labels, predicted, labels=range(classes)).astype(np.int64)
    return Sums(matrix, 1.5 * len(labels), int(np.trace(matrix)), len(labels))


def computed(name, sums):
    metric = metrics.find(name, METRICS)
    assert metric
    return metric.compute(sums)


@st.composite
def predictions(draw):
    """Labels and predictions in which classes are missing on either side, or on both."""
    classes = draw(st.integers(1, 6))
    count = draw(st.integers(1, 30))
    one = st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)
    return classes, draw(one), draw(one)


@given(predictions())
def test_macro_f1_is_the_mean_over_the_classes_that_have_labels(case):
    classes, labels, predicted = case
    expected = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert computed("macro_f1", sums_of(labels, predicted, classes)) == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_have_labels(case):
    classes, labels, predicted = case
    with warnings.catch_warnings():
        # That a class is predicted which has no label.
        warnings.simplefilter("ignore")
        expected = balanced_accuracy_score(labels, predicted)
    assert computed("balanced_accuracy", sums_of(labels, predicted, classes)) == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_the_others_are_means_over_the_images(case):
    classes, labels, predicted = case
    sums = sums_of(labels, predicted, classes)
    assert computed("top1", sums) == pytest.approx(np.mean(np.equal(labels, predicted)))
    assert computed("top5", sums) == 1
    assert computed("loss", sums) == pytest.approx(1.5)


def test_a_class_that_is_never_predicted_has_an_f1_of_zero():
    assert computed("macro_f1", sums_of([0, 0, 1], [0, 0, 0], 3)) == pytest.approx((4 / 5 + 0) / 2)


def test_without_images_nothing_is_a_number():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = Sums(np.zeros((3, 3), dtype=np.int64), 0.0, 0, 0)
        assert all(math.isnan(metric.compute(empty)) for metric in METRICS)


def test_every_name_and_title_is_there_once_and_the_headline_is_the_first():
    for names in ([one.name for one in METRICS], [one.title for one in METRICS]):
        assert len(names) == len(set(names))
    assert METRICS[0] is HEADLINE


def test_a_top_k_is_found_by_its_k_and_the_top_1_is_itself():
    found = metrics.find("top3", METRICS)
    assert (found.name, found.title, found.goal) == ("top3", "top-3", Goal.max)
    assert metrics.find("top1", METRICS) is HEADLINE
    for name in ("top0", "top", "top01", "top-5", "macro", "top{k}x", ""):
        assert metrics.find(name, METRICS) is None
    assert [one.name for one in metrics.with_k(METRICS, 1)] == ["top1", "macro_f1", "balanced_accuracy", "loss"]


def test_what_is_present_comes_in_the_order_of_the_list():
    own = Metric("kappa", "kappa", Goal.max, lambda sums: 0.0)
    values = ["params", "kappa", "loss", "top3", "top1", "top5"]
    assert [one.name for one in metrics.present(values, [*METRICS, own])] == ["top1", "top3", "top5", "loss", "kappa"]


def test_the_list_needs_neither_paddle_nor_numpy():
    code = "import sys, runner.metrics; print({'numpy', 'paddle', 'sklearn', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
