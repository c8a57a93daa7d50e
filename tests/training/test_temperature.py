"""The temperature is the one of the least negative log likelihood."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from runner import config as cfg
from runner.data.splits import Images
from runner.training import temperature
from runner.training.precision import Precision


def likelihood(logits, labels, divisor):
    return -log_softmax(logits / divisor, axis=1)[np.arange(len(labels)), labels].mean()


def cross_entropy(logits, labels, divisor):
    """With labels that count as if one more image had been right, and one wrong."""
    images, classes = logits.shape
    soft = np.full(logits.shape, 1 / (images + 2) / (classes - 1))
    soft[np.arange(images), labels] = (images + 1) / (images + 2)
    return -(soft * log_softmax(logits / divisor, axis=1)).sum(axis=1).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0.2, 5))
def test_no_other_temperature_is_better(seed, classes, scale):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, 120)
    logits = scale * (generator.normal(size=(120, classes)) + 1.5 * np.eye(classes)[labels])
    found = temperature.best(logits.astype("float32"), labels)
    best = minimize_scalar(
        lambda divisor: cross_entropy(logits, labels, divisor),
        bounds=(temperature.LOW, temperature.HIGH), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert cross_entropy(logits, labels, found) == pytest.approx(best.fun, abs=1e-9)


def test_labels_drawn_from_softened_logits_give_that_temperature():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 6, (20_000, 5))
    softened = np.exp(log_softmax(logits / 3, axis=1))
    labels = np.array([generator.choice(5, p=row) for row in softened])
    assert temperature.best(logits, labels) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("images", [4, 16, 400])
def test_a_network_without_mistakes_is_as_sure_as_so_many_images_allow(images):
    labels = np.arange(images) % 4
    found = temperature.best(np.eye(4)[labels] * 9, labels)
    confidence = np.exp(log_softmax(np.array([9 / found, 0, 0, 0])))[0]
    assert confidence == pytest.approx((images + 1) / (images + 2))


def test_a_network_that_is_always_wrong_or_knows_nothing_has_a_temperature():
    labels = np.arange(4)
    assert temperature.best(-np.eye(4) * 9, labels) == pytest.approx(temperature.HIGH)
    assert temperature.best(np.zeros((4, 4)), labels) > 0


def test_a_network_is_measured_on_some_images_and_stays_as_it_is(monkeypatch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1D(4))
    network.train()
    paddle.seed(0)
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    pictures = np.random.default_rng(0).integers(0, 256, (28, 2, 2, 3), dtype=np.uint8)
    val = Images(pictures, np.arange(28) % 4)
    loaders = SimpleNamespace(source=SimpleNamespace(val=val), classes=list("abcd"), many=False)
    monkeypatch.setattr(temperature, "LOGITS", 40)
    logits, labels = temperature.validated(network, loaders, cfg.Data(image_size=2, eval_batch_size=8), Precision())
    assert logits.shape == (10, 4)
    assert labels.tolist() == [place % 4 for place in range(0, 28, 3)]
    assert network[2].training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_a_temperature_is_taken_where_it_helps_on_images_that_it_was_not_fitted_to():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1, (2000, 5))
    labels = np.array([generator.choice(5, p=row) for row in np.exp(log_softmax(logits, axis=1))])
    assert (
        temperature.improving(4 * logits, labels) == temperature.best(4 * logits, labels) == pytest.approx(4, rel=0.1)
    )
    # Logits that are as they should be have none that helps, but for chance.
    taken = [
        temperature.improving(logits[begin : begin + 50], labels[begin : begin + 50]) for begin in range(0, 2000, 50)
    ]
    assert sum(one is None for one in taken) > 35
    assert temperature.improving(logits[:1], labels[:1]) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_likelihoods_are_scipy_s(seed, divisor):
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(0, 5, (30, 4)).astype(np.float32), generator.integers(0, 4, 30)
    expected = -30 * likelihood(logits.astype(float), labels, divisor)
    assert temperature.likelihoods(logits, labels, divisor).sum() == pytest.approx(expected, rel=1e-9)
