"""Losses equal their formulas, computed by NumPy in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from runner import config as cfg
from runner.errors import ConfigError
from runner.training import losses, mimics

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
def test_soft_labels_are_what_hard_ones_are_of_several_classes(drawn, epsilon):
    logits, other, labels = drawn
    soft = softmax(other)
    target = (1 - epsilon) * soft + epsilon / logits.shape[1]
    expected = -(target * np.log(softmax(logits))).sum(axis=-1).mean()
    assert float(losses.label_smoothing(*tensors(logits, soft), epsilon)) == pytest.approx(expected, abs=TOLERANCE)
    expected = -(soft * np.log(softmax(logits))).sum(axis=-1).mean()
    assert float(losses.cross_entropy(*tensors(logits, soft))) == pytest.approx(expected, abs=TOLERANCE)
    # Of one class alone they are its label.
    certain = np.eye(logits.shape[1])[labels]
    hard = float(losses.cross_entropy(*tensors(logits, labels)))
    assert float(losses.cross_entropy(*tensors(logits, certain))) == pytest.approx(hard, abs=TOLERANCE)


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
    assert float(mimics.build(cfg.Dml(), losses.kl_divergence)(logits, logits, None)) == pytest.approx(0, abs=1e-12)
    assert float(mimics.build(cfg.JsOriginal(), losses.kl_divergence)(logits, logits, None)) > 1e-7


def test_distillation_has_the_squared_temperature_so_that_its_gradient_keeps_its_size():
    generator = np.random.default_rng(0)
    logits, peer = tensors(generator.normal(size=(8, 10)), generator.normal(size=(8, 10)))
    distillation = mimics.build(cfg.Kd(alpha=0.3, temperature=4), losses.kl_divergence)(logits, peer, None)
    assert float(distillation) == pytest.approx(0.3 * 16 * float(losses.kl_divergence(logits, peer, 4.0)), rel=1e-12)


def test_a_loss_of_the_user_is_called_with_its_arguments():
    custom = losses.build(cfg.CustomLoss(target="tests.samples:scaled_error", kwargs={"scale": 3.0}))
    logits, labels = tensors(np.ones((2, 4)), np.array([0, 1]))
    assert float(custom(logits, labels)) == pytest.approx(3.0 * np.log(4))


def classes_of(counts):
    return losses.Classes([f"class{number}" for number in range(len(counts))], np.array(counts))


def target_of(loss, labels, classes):
    """What a loss compares with: the one-hot target, softened by label smoothing."""
    epsilon = loss.epsilon if isinstance(loss, cfg.LabelSmoothing) else 0
    return (1 - epsilon) * np.eye(classes)[labels] + epsilon / classes


@settings(max_examples=40, deadline=None)
@given(two_logits(), st.sampled_from([cfg.CrossEntropy, cfg.LabelSmoothing, cfg.Focal]), st.integers(0, 2**32 - 1))
def test_the_loss_of_every_image_has_the_weight_of_its_class(drawn, kind, seed):
    logits, _, labels = drawn
    weights = np.random.default_rng(seed).uniform(0, 3, logits.shape[1])
    weighted = losses.build(kind(class_weights=weights.tolist()), classes_of([1] * logits.shape[1]))
    plain = losses.build(kind())
    each = [float(plain(*tensors(logits[[row]], labels[[row]]))) for row in range(len(labels))]
    expected = np.mean(weights[labels] * each)
    assert float(weighted(*tensors(logits, labels))) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    chosen = kind()
    by_formula = -(target_of(chosen, labels, logits.shape[1]) * np.log(softmax(logits))).sum(axis=-1)
    if kind is cfg.Focal:
        by_formula *= (1 - softmax(logits)[np.arange(len(labels)), labels]) ** chosen.gamma
    np.testing.assert_allclose(each, by_formula, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(two_logits(), st.sampled_from([cfg.CrossEntropy, cfg.LabelSmoothing, cfg.Focal]), st.integers(0, 2**32 - 1))
def test_each_share_of_a_soft_label_has_the_weight_of_its_class(drawn, kind, seed):
    logits, other, _ = drawn
    rows, classes = logits.shape
    weights = np.random.default_rng(seed).uniform(0, 3, classes)
    weighted = losses.build(kind(class_weights=weights.tolist()), classes_of([1] * classes))
    soft = softmax(other)
    each = [
        [float(weighted(*tensors(logits[[row]], np.array([one])))) for one in range(classes)] for row in range(rows)
    ]
    expected = (soft * np.array(each)).sum(axis=1).mean()
    assert float(weighted(*tensors(logits, soft))) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(two_logits(), st.floats(0, 5))
def test_focal_loss_is_its_formula_and_its_gradient_a_difference(drawn, gamma):
    logits, _, labels = drawn
    loss = losses.build(cfg.Focal(gamma=gamma))

    def formula(values):
        p = softmax(values)[np.arange(len(labels)), labels]
        return (-((1 - p) ** gamma) * np.log(p)).mean()

    tensor, target = tensors(logits, labels)
    tensor.stop_gradient = False
    value = loss(tensor, target)
    value.backward()
    assert float(value) == pytest.approx(formula(logits), rel=1e-4, abs=1e-6)
    step = 1e-5 * np.eye(logits.shape[1])[labels]
    slope = (formula(logits + step) - formula(logits - step)) / 2e-5
    along = float((tensor.grad.numpy() * np.eye(logits.shape[1])[labels]).sum())
    assert along == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_focal_loss_without_its_exponent_is_cross_entropy():
    logits, labels = tensors(np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 5)
    assert float(losses.focal(logits, labels, 0.0)) == pytest.approx(float(losses.cross_entropy(logits, labels)))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_a_certain_network_has_a_finite_gradient(gamma):
    logits = paddle.to_tensor([[100.0, -100.0], [-100.0, 100.0]], stop_gradient=False)
    loss = losses.focal(logits, paddle.to_tensor([0, 0]), gamma)
    loss.backward()
    assert float(loss) == pytest.approx(100.0)
    assert np.isfinite(logits.grad.numpy()).all()


@settings(max_examples=30, deadline=None)
@given(two_logits(), st.floats(0, 2), st.integers(0, 2**32 - 1))
def test_logit_adjustment_adds_the_logarithms_of_the_frequencies(drawn, tau, seed):
    logits, _, labels = drawn
    counts = np.random.default_rng(seed).integers(1, 100, logits.shape[1])
    loss = losses.build(cfg.LogitAdjustment(tau=tau), classes_of(counts))
    frequencies = counts / counts.sum()
    # eq. 10 of the paper.
    scores = frequencies**tau * np.exp(logits)
    expected = -np.log(scores[np.arange(len(labels)), labels] / scores.sum(axis=-1)).mean()
    assert float(loss(*tensors(logits, labels))) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_class_without_images_leaves_logit_adjustment_a_number():
    loss = losses.build(cfg.LogitAdjustment(), classes_of([5, 0, 3]))
    logits = paddle.to_tensor([[1.0, 2.0, 3.0]], stop_gradient=False)
    value = loss(logits, paddle.to_tensor([0]))
    value.backward()
    assert np.isfinite(float(value))
    assert np.isfinite(logits.grad.numpy()).all()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_automatic_weights_are_the_balanced_ones_of_scikit_learn(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    found = losses.class_weights("auto", classes_of(counts))
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_allclose(found, expected)
    assert found[labels].mean() == pytest.approx(1)


def test_classes_without_images_are_no_part_of_automatic_weights():
    assert losses.class_weights("auto", classes_of([6, 0, 2])).tolist() == pytest.approx([8 / 12, 0, 2])


@given(st.permutations(["cat", "dog", "eel", "owl"]), st.permutations(["cat", "dog", "eel", "owl"]))
def test_a_list_of_weights_is_in_the_order_of_the_data_set(own_order, names):
    classes = losses.Classes(names, np.ones(4, np.int64), own_order=own_order)
    weights = losses.class_weights([1, 2, 3, 4], classes)
    assert [weights[names.index(name)] for name in own_order] == [1, 2, 3, 4]


def test_weights_come_by_name_and_others_are_one():
    classes = losses.Classes(["cat", "dog", "7"], np.array([1, 1, 1]))
    assert losses.class_weights({"dog": 2.5, 7: 0}, classes).tolist() == [1, 2.5, 0]
    assert losses.class_weights({"cat": 0}, classes).tolist() == [0, 1, 1]
    with pytest.raises(ConfigError, match="every class has 0"):
        losses.class_weights({"dog": 0, 7: 0, "cat": 0.0}, classes)
    with pytest.raises(ConfigError, match=r"loss.class_weights.dgo: there is no such class. Did you mean 'dog'"):
        losses.class_weights({"dgo": 2}, classes)
    with pytest.raises(ConfigError, match="there are 3 classes, and each needs a number.*cat, dog, 7"):
        losses.class_weights([1, 2], classes)
