"""The metrics of the list are those of scikit-learn, of any labels and predictions, and have one name each."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    precision_score,
    roc_auc_score,
)

from runner import metrics
from runner.metrics import CALIBRATION_BINS, CONFIDENCE_UNIT, HEADLINE, METRICS, Goal, Metric, Scores, Sums, names
from runner.training.scores import rankings


def sums_of(labels, predicted, classes):
    matrix = confusion_matrix(labels, predicted, labels=range(classes)).astype(np.int64)
    return Sums(matrix, 1.5 * len(labels), int(np.trace(matrix)), len(labels))


def computed(name, sums):
    metric = names.find(name, METRICS)
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
def test_macro_precision_is_the_mean_over_the_classes_that_have_labels(case):
    classes, labels, predicted = case
    expected = precision_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert computed("macro_precision", sums_of(labels, predicted, classes)) == pytest.approx(expected, abs=1e-12)


@given(predictions())
def test_matthews_correlation_and_kappa_are_those_of_scikit_learn(case):
    classes, labels, predicted = case
    sums = sums_of(labels, predicted, classes)
    with warnings.catch_warnings():
        # Kappa of labels and predictions of one class only is 0/0.
        warnings.simplefilter("ignore")
        assert computed("mcc", sums) == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
        expected = cohen_kappa_score(labels, predicted, labels=range(classes))
    assert computed("cohen_kappa", sums) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(predictions())
def test_precision_recall_and_f1_of_every_class_are_those_of_scikit_learn(case):
    classes, labels, predicted = case
    each = metrics.of_classes(sums_of(labels, predicted, classes).confusion)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), average=None, zero_division=0
    )
    np.testing.assert_allclose(each.precision, precision)
    np.testing.assert_allclose(each.recall, recall)
    np.testing.assert_allclose(each.f1, f1)


@given(predictions())
def test_metrics_of_one_class_are_named_by_it_whatever_its_name(case):
    classes, labels, predicted = case
    called = ["map", "a/b", "recall", *(f"class {number}" for number in range(classes))][:classes]
    sums = sums_of(labels, predicted, classes)
    each = metrics.of_classes(sums.confusion)
    for kind, values in (("precision", each.precision), ("recall", each.recall), ("f1", each.f1)):
        for number, label in enumerate(called):
            value = names.per_class_metric(f"{kind}/{label}", called).compute(sums)
            assert value == pytest.approx(values[number] if number in labels else math.nan, nan_ok=True)


def calibration_of(probabilities, labels):
    """`Scores.calibration`, an image at a time."""
    table = np.zeros((CALIBRATION_BINS, 3), dtype=np.int64)
    for row, label in zip(probabilities, labels, strict=True):
        number = min(math.ceil(float(row.max()) * CALIBRATION_BINS), CALIBRATION_BINS) - 1
        table[number] += [1, row.argmax() == label, int(float(row.max()) / CONFIDENCE_UNIT)]
    return table


@st.composite
def probabilities(draw):
    """Probabilities with many equal ones, and labels of which classes may be missing."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, count = draw(st.integers(2, 6)), draw(st.integers(1, 40))
    logits = generator.integers(0, draw(st.sampled_from([3, 1000])), (count, classes)) / 100
    exponentials = np.exp(logits)
    labels = generator.integers(0, generator.integers(1, classes + 1), count)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype("float32"), labels


def scored(given, labels):
    sums = sums_of(labels, given.argmax(axis=1), given.shape[1])
    return replace(sums, scores=Scores(rankings(given, labels), calibration_of(given, labels)))


@given(probabilities())
def test_areas_are_those_of_scikit_learn(case):
    given_, labels = case
    sums, areas, averages = scored(given_, labels), [], []
    for label in np.unique(labels):
        own = labels == label
        averages.append(average_precision_score(own, given_[:, label]))
        if not own.all():
            areas.append(roc_auc_score(own, given_[:, label]))
    expected = np.mean(areas) if areas else math.nan
    assert computed("roc_auc", sums) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert computed("average_precision", sums) == pytest.approx(np.mean(averages), abs=1e-12)


@given(probabilities())
def test_the_calibration_error_is_that_of_its_paper(case):
    given_, labels = case
    confidence, right = given_.max(axis=1).astype(np.float64), given_.argmax(axis=1) == labels
    expected = 0.0
    for low in range(CALIBRATION_BINS):
        within = (confidence * CALIBRATION_BINS > low) & (confidence * CALIBRATION_BINS <= low + 1)
        if within.any():
            expected += within.mean() * abs(right[within].mean() - confidence[within].mean())
    assert computed("calibration_error", scored(given_, labels)) == pytest.approx(expected, abs=1e-7)


def test_scores_of_a_network_that_returns_nan_are_no_numbers():
    given_, labels = np.full((3, 2), np.nan, dtype=np.float32), np.array([0, 1, 1])
    sums = replace(
        sums_of(labels, labels, 2), loss=math.nan, scores=Scores(rankings(given_, labels), np.zeros((15, 3)))
    )
    assert all(math.isnan(metric.compute(sums)) for metric in METRICS if metric.needs_scores)


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
    for texts in ([one.name for one in METRICS], [one.title for one in METRICS]):
        assert len(texts) == len(set(texts))
    assert METRICS[0] is HEADLINE


def test_a_top_k_is_found_by_its_k_and_the_top_1_is_itself():
    found = names.find("top3", METRICS)
    assert (found.name, found.title, found.goal) == ("top3", "top-3", Goal.max)
    assert names.find("top1", METRICS) is HEADLINE
    for name in ("top0", "top", "top01", "top-5", "macro", "top{k}x", ""):
        assert names.find(name, METRICS) is None
    assert [one.name for one in names.with_k(METRICS, 1)] == [
        "top1", "macro_f1", "macro_precision", "balanced_accuracy", "mcc", "cohen_kappa", "roc_auc",
        "average_precision", "calibration_error", "loss",
    ]  # fmt: skip


def test_what_is_present_comes_in_the_order_of_the_list():
    own = Metric("kappa", "kappa", Goal.max, lambda sums: 0.0)
    values = ["params", "kappa", "loss", "top3", "top1", "top5"]
    assert [one.name for one in names.present(values, [*METRICS, own])] == ["top1", "top3", "top5", "loss", "kappa"]


def test_the_list_needs_neither_paddle_nor_numpy():
    code = "import sys, runner.metrics; print({'numpy', 'paddle', 'sklearn', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
