"""Losses of many labels equal their formulas, computed by NumPy in float64 for each label."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from runner import config as cfg
from runner.training import binary, mimics
from runner.training.losses import Classes


@st.composite
def cases(draw):
    """Logits float64 [N, K], a peer's, and labels uint8 [N, K] of which images and classes may have none."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    scale, share = draw(st.sampled_from([0.1, 1.0, 8.0])), draw(st.sampled_from([0.0, 0.3, 1.0]))
    labels = (generator.random(shape) < share).astype(np.uint8)
    return generator.normal(0, scale, shape), generator.normal(0, scale, shape), labels


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def computed(loss, logits, labels, *others):
    return float(loss(paddle.to_tensor(logits), paddle.to_tensor(labels), *others))


@settings(max_examples=30, deadline=None)
@given(cases())
def test_bce_is_the_log_loss_of_every_label(case):
    logits, _, labels = case
    own = computed(binary.build(cfg.Bce()), logits, labels)
    assert own == pytest.approx(np.logaddexp(0, np.where(labels, -logits, logits)).mean(), rel=1e-6)
    # Of a label that is very sure scikit-learn is given a probability that is rounded.
    assert own == pytest.approx(log_loss(labels.reshape(-1), sigmoid(logits).reshape(-1), labels=[0, 1]), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(cases(), st.floats(0, 0.9))
def test_bce_smooths_and_weighs_labels_that_an_image_has(case, epsilon):
    logits, _, labels = case
    classes = labels.shape[1]
    weights = np.linspace(0.5, 3, classes)
    targets = labels * (1 - epsilon) + epsilon / 2
    expected = (weights * targets * np.logaddexp(0, -logits) + (1 - targets) * np.logaddexp(0, logits)).mean()
    names = [f"class {number}" for number in range(classes)]
    config = cfg.Bce(epsilon=epsilon, class_weights=weights.tolist())
    loss = binary.build(config, Classes(names, labels.sum(axis=0), len(labels)))
    assert computed(loss, logits, labels) == pytest.approx(expected, rel=1e-5)


def test_auto_weights_are_the_images_without_a_label_by_those_with_it():
    weights = binary.positive_weights("auto", Classes(["a", "b", "c"], np.array([10, 40, 0]), 40))
    assert weights.tolist() == [3, 1, 1]


@settings(max_examples=30, deadline=None)
@given(
    cases(), st.sampled_from([0.0, 0.5, 1.0, 4.0]), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0, 0.05, 0.3])
)
def test_asl_is_the_formula_of_its_paper(case, negative, positive, margin):
    logits, _, labels = case
    p = sigmoid(logits)
    shifted = np.maximum(p - margin, 0)
    expected = np.where(labels == 1, (1 - p) ** positive * np.log(p), shifted**negative * np.log(1 - shifted)).mean()
    loss = binary.build(cfg.Asl(gamma_positive=positive, gamma_negative=negative, margin=margin))
    assert computed(loss, logits, labels) == pytest.approx(-expected, rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(cases(), st.sampled_from([0.0, 1.0, 2.0]))
def test_focal_counts_each_label_less_the_surer_it_is_right(case, gamma):
    logits, _, labels = case
    right = np.where(labels == 1, sigmoid(logits), sigmoid(-logits))
    expected = -((1 - right) ** gamma * np.log(right)).mean()
    assert computed(binary.build(cfg.Focal(gamma=gamma)), logits, labels) == pytest.approx(expected, rel=1e-5, abs=1e-6)


LOSSES = [cfg.Bce(), cfg.Bce(epsilon=0.1), cfg.Focal(), cfg.Focal(gamma=0.5), cfg.Asl(), cfg.Asl(gamma_negative=0)]


@pytest.mark.parametrize("config", LOSSES, ids=str)
def test_gradients_are_those_of_differences_and_finite_where_a_network_is_sure(config):
    loss, generator = binary.build(config), np.random.default_rng(1)
    logits, labels = generator.normal(0, 2, (4, 5)), (generator.random((4, 5)) < 0.5).astype(np.uint8)

    def gradient(values):
        tensor = paddle.to_tensor(values, stop_gradient=False)
        loss(tensor, paddle.to_tensor(labels)).backward()
        return tensor.grad.numpy()

    own, step = gradient(logits), 1e-5
    for place in np.ndindex(*logits.shape):
        moved = [logits.copy() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        slope = (computed(loss, moved[0], labels) - computed(loss, moved[1], labels)) / (2 * step)
        assert own[place] == pytest.approx(slope, rel=1e-4, abs=1e-7)
    for sure in (-200.0, 200.0):
        assert np.isfinite(gradient(np.full((4, 5), sure, np.float32))).all()


@settings(max_examples=30, deadline=None)
@given(cases(), st.sampled_from([1.0, 4.0]))
def test_a_peer_is_followed_in_each_label_by_itself(case, temperature):
    logits, peer, _ = case
    p, q = sigmoid(logits / temperature), sigmoid(peer / temperature)
    expected = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    kl = computed(mimics.build(cfg.Kl(temperature=temperature), binary.kl_divergence), logits, peer, None)
    assert kl == pytest.approx(expected, rel=1e-4, abs=1e-7)
    kd = computed(mimics.build(cfg.Kd(alpha=0.3, temperature=temperature), binary.kl_divergence), logits, peer, None)
    assert kd == pytest.approx(0.3 * temperature**2 * kl, rel=1e-6)
    assert computed(mimics.build(cfg.Dml(), binary.kl_divergence), logits, logits, None) == 0


def test_a_loss_of_ones_own_is_given_labels_as_numbers():
    def squares(logits, labels):
        assert labels.dtype == paddle.float32
        return (logits - labels).square().mean()

    globals()["squares"] = squares
    loss = binary.build(cfg.CustomLoss(target=f"{__name__}:squares"))
    assert computed(loss, np.float32([[1, 3]]), np.uint8([[0, 1]])) == 2.5


def test_a_label_that_all_images_have_or_none_has_no_weight_of_its_own():
    """Else it would have no gradient at all."""
    weights = binary.positive_weights("auto", Classes(["all", "some", "none"], np.array([10, 4, 0]), 10))
    assert weights.tolist() == [1.0, 1.5, 1.0]


@pytest.mark.parametrize("margin", [1e-12, 1e-8, 1e-7, 0.05])
def test_a_certain_network_has_a_finite_loss_and_slope_whatever_the_margin(margin):
    logits = paddle.to_tensor([[30.0, -30.0], [120.0, -120.0]], stop_gradient=False)
    labels = paddle.to_tensor(np.array([[1, 0], [0, 1]], np.uint8))
    loss = binary.build(cfg.Asl(margin=margin))(logits, labels)
    loss.backward()
    assert np.isfinite(float(loss))
    assert np.isfinite(logits.grad.numpy()).all()
