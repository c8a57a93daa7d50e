"""Losses against a peer's logits, compared with their papers' formulas, and their gradients with differences."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import pytest

from runner import config as cfg
from runner.training import losses, mimics, relations

LABELS = np.array([0, 3, 1, 3, 2])


def logits_of(seed, classes=4):
    return np.random.default_rng(seed).normal(size=(len(LABELS), classes)) * 2


def value_of(settings, logits, peer):
    loss = mimics.build(settings, losses.kl_divergence)
    return float(loss(paddle.to_tensor(logits), paddle.to_tensor(peer), paddle.to_tensor(LABELS)))


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def kl(q, p):
    return sum(a * np.log(a / b) for a, b in zip(q, p, strict=True))


def dkd(settings, logits, peer):
    """Equation 7, image by image."""
    total = 0.0
    own_all, other_all = softmax(logits / settings.temperature), softmax(peer / settings.temperature)
    for own, other, label in zip(own_all, other_all, LABELS, strict=True):
        rest, peer_rest = np.delete(own, label), np.delete(other, label)
        tckd = kl([other[label], 1 - other[label]], [own[label], 1 - own[label]])
        nckd = kl(peer_rest / peer_rest.sum(), rest / rest.sum())
        total += settings.alpha * tckd + settings.beta * nckd
    return settings.temperature**2 * total / len(LABELS)


def dist(settings, logits, peer):
    """Equations 8 to 10, with NumPy's correlations."""
    own, other = softmax(logits / settings.temperature), softmax(peer / settings.temperature)
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(own, other, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(own.T, other.T, strict=True)])
    return settings.temperature**2 * (settings.beta * inter + settings.gamma * intra)


def huber(x):
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def distances(points):
    table = np.array([[np.linalg.norm(a - b) for b in points] for a in points])
    return table / table[table > 0].mean()


def cosine(points, i, j, k):
    a, b = points[i] - points[j], points[k] - points[j]
    return 0.0 if j in (i, k) else a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def rkd(settings, points, others):
    """Equations 5 and 8, pair by pair and triplet by triplet."""
    count = range(len(points))
    pairs = np.mean([huber(a - b) for a, b in zip(distances(points).flat, distances(others).flat, strict=True)])
    triplets = itertools.product(count, repeat=3)
    angles = np.mean([huber(cosine(points, *one) - cosine(others, *one)) for one in triplets])
    return settings.distance * pairs + settings.angle * angles


CASES = [
    (cfg.Dkd(alpha=0.7, beta=3.0, temperature=2.5), dkd),
    (cfg.Dkd(alpha=0.0), dkd),
    (cfg.Dist(beta=1.5, gamma=0.5, temperature=3.0), dist),
    (cfg.Rkd(distance=3.0, angle=2.0), rkd),
]
EVERY = [*(settings for settings, _ in CASES), cfg.Rkd(angle=0.0), cfg.Kd(standardize=True), cfg.Dkd(standardize=True)]


@pytest.mark.parametrize(("settings", "formula"), CASES)
def test_a_loss_is_the_formula_of_its_paper(settings, formula):
    logits, peer = logits_of(0), logits_of(1)
    assert value_of(settings, logits, peer) == pytest.approx(formula(settings, logits, peer), rel=1e-9)


@pytest.mark.parametrize("settings", EVERY)
def test_the_gradient_is_that_of_differences(settings):
    logits, peer, step = logits_of(2), logits_of(3), 1e-6
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    mimics.build(settings, losses.kl_divergence)(tensor, paddle.to_tensor(peer), paddle.to_tensor(LABELS)).backward()
    for place in np.ndindex(*logits.shape):
        change = np.zeros_like(logits)
        change[place] = step
        slope = (value_of(settings, logits + change, peer) - value_of(settings, logits - change, peer)) / (2 * step)
        assert tensor.grad.numpy()[place] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("settings", EVERY)
def test_a_network_that_does_what_its_peer_does_has_nothing_to_follow(settings):
    assert value_of(settings, logits_of(4), logits_of(4)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("settings", EVERY)
@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_loss_and_gradient_are_numbers_where_logits_are_all_the_same_or_very_sure(settings, scale):
    tensor = paddle.to_tensor(scale * logits_of(5), dtype="float32", stop_gradient=False)
    peer = paddle.to_tensor(scale * logits_of(6), dtype="float32")
    mimics.build(settings, losses.kl_divergence)(tensor, peer, paddle.to_tensor(LABELS)).backward()
    assert np.isfinite(tensor.grad.numpy()).all()


def test_logits_are_standardized_before_the_temperature():
    logits, peer = logits_of(0), logits_of(1)
    standard = [(one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True, ddof=1) for one in (logits, peer)]
    for kind in (cfg.Kl, cfg.Kd, cfg.Dkd):
        expected = value_of(kind(temperature=3.0), *standard)
        assert value_of(kind(temperature=3.0, standardize=True), logits, peer) == pytest.approx(expected, rel=1e-5)


def test_images_that_are_alone_have_no_relations():
    own, other = paddle.randn([1, 5]), paddle.randn([1, 7])
    assert float(relations.rkd(own, other, 1.0, 1.0)) == 0
    # Those of its classes remain.
    correlation = np.corrcoef(softmax(own.numpy() / 2)[0], softmax(other.numpy()[:, :5] / 2)[0])[0, 1]
    assert float(relations.dist(own, other[:, :5], 1.5, 0.5, 2.0)) == pytest.approx(
        4 * 1.5 * (1 - correlation), rel=1e-4
    )


def test_relations_of_features_are_those_of_their_means_and_layers_add_up():
    generator = np.random.default_rng(0)
    own = {name: generator.normal(size=(4, 3, 5, 5)).astype("float32") for name in "ab"}
    other = {name: generator.normal(size=(4, 6, 2, 3)).astype("float32") for name in "xy"}
    settings = cfg.Rkd(distance=3.0, angle=2.0)
    pairs = zip(own.values(), other.values(), strict=True)
    expected = sum(rkd(settings, a.mean((2, 3)), b.mean((2, 3))) for a, b in pairs)
    tensors = [{name: paddle.to_tensor(maps) for name, maps in one.items()} for one in (own, other)]
    assert float(relations.rkd_of_features(*tensors, 3.0, 2.0)) == pytest.approx(expected, rel=1e-4)
