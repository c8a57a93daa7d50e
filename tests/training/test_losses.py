"""Losses equal their formulas, computed by NumPy in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner.training import losses

TOLERANCE = 1e-6


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@st.composite
def two_logits(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, classes = draw(st.integers(1, 9)), draw(st.integers(2, 30))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    labels = generator.integers(0, classes, rows)
    return generator.normal(0, scale, (rows, classes)), generator.normal(0, scale, (rows, classes)), labels


def tensors(*arrays):
    return [paddle.to_tensor(array) for array in arrays]


@settings(max_examples=30, deadline=None)
@given(two_logits())
def test_cross_entropy_is_the_mean_negative_log_probability_of_the_label(drawn):
    logits, _, labels = drawn
    expected = -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()
    assert float(losses.cross_entropy(*tensors(logits, labels))) == pytest.approx(expected, abs=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(two_logits(), st.floats(0, 0.9))
def test_label_smoothing_mixes_the_one_hot_target_with_the_uniform_one(drawn, epsilon):
    logits, _, labels = drawn
    classes = logits.shape[1]
    target = (1 - epsilon) * np.eye(classes)[labels] + epsilon / classes
    expected = -(target * np.log(softmax(logits))).sum(axis=-1).mean()
    value = float(losses.label_smoothing(*tensors(logits, labels), epsilon))
    assert value == pytest.approx(expected, abs=TOLERANCE * 10)


@settings(max_examples=30, deadline=None)
@given(two_logits())
def test_the_original_formulas_are_reproduced_with_their_epsilons(drawn):
    logits, peer, _ = drawn
    p1, p2, e = softmax(logits), softmax(peer), 1e-5
    kl = p2 * np.log((p2 + e) / (p1 + e) + e)
    js = 0.5 * (kl + p1 * np.log((p1 + e) / (p2 + e) + e))
    for formula, elements in ((losses.kl_original, kl), (losses.js_original, js)):
        a, b = tensors(logits, peer)
        assert float(formula(a, b, "mean")) == pytest.approx(elements.mean(), abs=TOLERANCE)
        assert float(formula(a, b, "sum")) == pytest.approx(elements.sum(), abs=TOLERANCE * 10)
        np.testing.assert_allclose(formula(a, b, "none").numpy(), elements, atol=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(two_logits(), st.sampled_from([1.0, 2.0, 4.0]))
def test_kl_divergence_is_summed_over_classes_and_averaged_over_the_batch(drawn, temperature):
    logits, peer, _ = drawn
    p, q = softmax(peer / temperature), softmax(logits / temperature)
    expected = (p * (np.log(p) - np.log(q))).sum(axis=-1).mean()
    value = float(losses.kl_divergence(*tensors(logits, peer), temperature))
    assert value == pytest.approx(expected, abs=TOLERANCE * 10)


def test_equal_logits_have_no_mutual_loss_by_default_but_do_in_the_original():
    logits = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, 10)))
    assert float(losses.build_mimic(cfg.Dml())(logits, logits)) == pytest.approx(0, abs=1e-12)
    assert float(losses.build_mimic(cfg.JsOriginal())(logits, logits)) > 1e-7


def test_distillation_has_the_squared_temperature_so_that_its_gradient_keeps_its_size():
    generator = np.random.default_rng(0)
    logits, peer = tensors(generator.normal(size=(8, 10)), generator.normal(size=(8, 10)))
    distillation = losses.build_mimic(cfg.Kd(alpha=0.3, temperature=4))(logits, peer)
    assert float(distillation) == pytest.approx(0.3 * 16 * float(losses.kl_divergence(logits, peer, 4.0)), rel=1e-12)


def test_a_loss_of_the_user_is_called_with_its_arguments():
    custom = losses.build(cfg.CustomLoss(target="tests.samples:scaled_error", kwargs={"scale": 3.0}))
    logits, labels = tensors(np.ones((2, 4)), np.array([0, 1]))
    assert float(custom(logits, labels)) == pytest.approx(3.0 * np.log(4))
