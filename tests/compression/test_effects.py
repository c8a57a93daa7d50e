"""What integers do to each layer equals what networks with those integers alone compute."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import effects, ptq, slim
from runner.kernels.accelerate import accelerate


def decide(logits):
    return logits.argmax(axis=1)


def images(count, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal((count, 3, 32, 32), dtype=np.float32))


@pytest.fixture(scope="module")
def networks():
    """A network in floats, and the same with four bits."""
    paddle.seed(0)
    plain = nn.Sequential(
        nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 16, 3, 2, 1), nn.Hardswish(),
        nn.Conv2D(16, 16, 3, 1, 1, groups=16), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    plain.eval()
    rounded = copy.deepcopy(plain)
    settings = cfg.CalibratedQuantization(weight_bits=4, activation_bits=4)
    ptq.quantize_and_calibrate(rounded, settings, [images(16)])
    return plain, rounded


@pytest.mark.parametrize("accelerated", [False, True])
def test_every_layer_is_compared_with_the_float_network(networks, accelerated):
    plain, rounded = copy.deepcopy(networks)
    if accelerated:
        accelerate(plain, (3, 32, 32))
        accelerate(rounded, (3, 32, 32))
    rounded.train()
    batches = [images(12, 1), images(5, 2)]
    labels = np.arange(17) % 10
    state = {name: value.numpy().copy() for name, value in rounded.state_dict().items()}
    told = []
    result = effects.of_integers(rounded, batches, decide, labels, lambda done, count: told.append((done, count)))
    assert all(layer.training for layer in rounded.sublayers(include_self=True))
    for name, value in rounded.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name], err_msg=name)
    layers = slim.fake_quantized(rounded)
    assert {one.name for one in result.layers} == set(layers)
    assert told == [(number, len(layers)) for number in range(1, len(layers) + 1)]
    rounded.eval()
    with paddle.no_grad():
        floats, integers = (
            decide(np.concatenate([one(batch).numpy() for batch in batches])) for one in (plain, rounded)
        )
    assert result.changed == (floats != integers).sum() > 0
    assert result.right == ((floats == labels).sum(), (integers == labels).sum())
    order = [(-one.alone, -one.restored) for one in result.layers]
    assert order == sorted(order)
    assert all(one.bits == (4, 4) for one in result.layers)


def test_a_layer_alone_has_the_decisions_of_a_network_with_it_alone(networks):
    plain, rounded = networks
    first = next(iter(slim.fake_quantized(rounded)))
    single = copy.deepcopy(plain)
    skip = [name for name in slim.fake_quantized(rounded) if name != first]
    settings = cfg.CalibratedQuantization(weight_bits=4, activation_bits=4, skip=skip)
    ptq.quantize_and_calibrate(single, settings, [images(16)])
    single.eval()
    batch = images(17, 1)
    result = {one.name: one for one in effects.of_integers(rounded, [batch], decide, np.zeros(17, int)).layers}
    with paddle.no_grad():
        floats, integers = (decide(network(batch).numpy()) for network in (plain, single))
    assert result[first].alone == (floats != integers).sum()


def test_with_many_labels_a_decision_is_all_of_them():
    decisions = np.array([[1, 0], [0, 0], [1, 1]])
    assert effects.changed(decisions, np.array([[1, 0], [1, 1], [1, 0]])) == 2
