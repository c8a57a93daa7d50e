"""Which parameters decay, and that Paddle's optimizers get what the config says."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.training import optimizers

LR, DECAY = 0.1, 0.5


def network():
    paddle.seed(0)
    return nn.Sequential(nn.Conv2D(2, 3, 1), nn.BatchNorm2D(3))


def step_without_gradient(config):
    """How much each parameter changed, relative to its value, when the loss says nothing."""
    layers = network()
    for parameter in layers.parameters():
        parameter.set_value(paddle.full_like(parameter, 2.0))
    built = optimizers.build(config, cfg.Constant(), {"student": layers}, 10, 5)
    (layers(paddle.randn([2, 2, 4, 4])).sum() * 0.0).backward()
    built.optimizer.step()
    return {name: float(p.mean()) - 2.0 for name, p in built.parameters.items()}


def test_norms_and_biases_do_not_decay():
    change = step_without_gradient(cfg.Sgd(lr=LR, weight_decay=DECAY))
    assert change["student.0.weight"] == pytest.approx(-LR * DECAY * 2.0)
    assert [change[f"student.{name}"] for name in ("0.bias", "1.weight", "1.bias")] == [0, 0, 0]


def test_biases_decay_where_only_norms_are_exempt():
    change = step_without_gradient(cfg.Sgd(lr=LR, weight_decay=DECAY, decay_exempt=cfg.Exempt.norms))
    assert change["student.0.bias"] == pytest.approx(-LR * DECAY * 2.0)
    assert change["student.1.weight"] == 0


def test_everything_decays_where_nothing_is_exempt():
    change = step_without_gradient(cfg.Momentum(lr=LR, weight_decay=DECAY, decay_exempt=cfg.Exempt.nothing))
    assert all(value == pytest.approx(-LR * DECAY * 2.0) for value in change.values())


def test_l1_decay_subtracts_the_sign():
    change = step_without_gradient(cfg.Sgd(lr=LR, weight_decay=DECAY, decay=cfg.Decay.l1))
    assert change["student.0.weight"] == pytest.approx(-LR * DECAY, rel=1e-5)


def test_adamw_decouples_the_decay():
    change = step_without_gradient(cfg.AdamW(lr=LR, weight_decay=DECAY))
    assert change["student.0.weight"] == pytest.approx(-LR * DECAY * 2.0, rel=1e-5)
    assert change["student.1.weight"] == 0


@pytest.mark.parametrize("exempt", [cfg.Exempt.norms_and_biases, cfg.Exempt.nothing])
def test_lamb_steps_as_far_as_each_weight_is_long(exempt):
    """Algorithm 2 of You et al., ICLR 2020, with bias correction, in float64."""
    config = cfg.Lamb(lr=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9, decay_exempt=exempt)
    layers = network()
    generator = np.random.default_rng(0)
    for parameter in layers.parameters():
        parameter.set_value(generator.normal(1, 0.3, parameter.shape).astype("float32"))
    built = optimizers.build(config, cfg.Constant(), {"student": layers}, 10, 5)
    expected = {name: parameter.numpy().astype(float) for name, parameter in built.parameters.items()}
    first, second = ({name: 0.0 for name in expected} for _ in range(2))
    for step in range(1, 5):
        for name, parameter in built.parameters.items():
            gradient = generator.normal(0, 1, parameter.shape)
            parameter.grad = paddle.to_tensor(gradient.astype("float32"))
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.9 * second[name] + 0.1 * gradient**2
            update = first[name] / (1 - 0.8**step) / (np.sqrt(second[name] / (1 - 0.9**step)) + 1e-6)
            decays = exempt is cfg.Exempt.nothing or name == "student.0.weight"
            update = update + 0.1 * decays * expected[name]
            ratio = np.linalg.norm(expected[name]) / np.linalg.norm(update) if decays else 1.0
            expected[name] = expected[name] - 0.01 * ratio * update
        built.step()
    for name, parameter in built.parameters.items():
        np.testing.assert_allclose(parameter.numpy(), expected[name], rtol=2e-5, err_msg=name)


def test_clipping_bounds_the_global_norm():
    layers = nn.Linear(4, 4)
    before = layers.weight.numpy(), layers.bias.numpy()
    built = optimizers.build(cfg.Sgd(lr=1.0, clip_norm=0.01), cfg.Constant(), {"student": layers}, 10, 5)
    (layers(paddle.ones([2, 4])).sum() * 100).backward()
    built.step()
    moved = np.concatenate([(layers.weight.numpy() - before[0]).ravel(), layers.bias.numpy() - before[1]])
    assert np.linalg.norm(moved) == pytest.approx(0.01, rel=1e-3)


def test_the_learning_rate_follows_the_schedule_step_by_step():
    layers = nn.Linear(2, 2)
    built = optimizers.build(cfg.Momentum(lr=0.4), cfg.Cosine(), {"student": layers}, 5, 5)
    rates = []
    for _ in range(5):
        rates.append(built.lr)
        built.schedule.step()
    expected = [0.4 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(5)]
    assert rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "config",
    [cfg.Momentum(), cfg.Momentum(nesterov=True), cfg.Sgd(), cfg.RMSProp(lr=0.01, momentum=0.9), cfg.AdamW(lr=0.01),
     cfg.CustomOptimizer(target="tests.samples:plain_descent")],
    ids=lambda config: config.kind,
)  # fmt: skip
def test_every_optimizer_lowers_a_simple_loss(config):
    layers = nn.Linear(3, 1)
    built = optimizers.build(config, cfg.Constant(), {"student": layers}, 10, 5)
    inputs = paddle.ones([4, 3])
    losses = []
    for _ in range(5):
        loss = ((layers(inputs) - 3.0) ** 2).mean()
        loss.backward()
        built.optimizer.step()
        built.optimizer.clear_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
