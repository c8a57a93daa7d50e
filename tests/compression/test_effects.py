"""What integers do to each layer equals what networks with those integers alone compute."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import effects, ptq, slim
from runner.compression.floats import Floats
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import stock


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
    floats = Floats(rounded)
    result = effects.of_integers(
        rounded, floats, batches, decide, labels, lambda done, count: told.append((done, count))
    )
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
    found = effects.of_integers(rounded, Floats(rounded), [batch], decide, np.zeros(17, int)).layers
    result = {one.name: one for one in found}
    with paddle.no_grad():
        floats, integers = (decide(network(batch).numpy()) for network in (plain, single))
    assert result[first].alone == (floats != integers).sum()


def put_in_floats(network, plain, names):
    """By hand: the layers' weights, biases and, behind the first one, the normalisation of the float network."""
    for name in names:
        layer, own = network[int(name)], plain[int(name)]
        layer._fake_quant_weight = layer._fake_quant_input = nn.Identity()
        layer.weight.set_value(own.weight)
        if own.bias is not None:
            layer.bias.set_value(own.bias)
        else:
            network[1].set_state_dict(plain[1].state_dict())
    return network


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        {}, {"bias_correction": True}, {"adaround": cfg.AdaRound(enabled=True, iterations=50)},
        {"bias_correction": True, "adaround": cfg.AdaRound(enabled=True, iterations=50)},
    ],
    ids=["plain", "bias_correction", "adaround", "both"],
)  # fmt: skip
def test_floats_are_those_that_quantization_began_with(how, accelerated):
    paddle.seed(0)
    plain = nn.Sequential(
        nn.Conv2D(3, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 8, 3, 2, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2D(2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    plain.eval()
    batch = images(64)
    # Without the shift one class would be predicted for all images, whatever happened to the layers.
    plain[7].bias.set_value(plain[7].bias - plain(batch).mean(0))
    expected = decide(plain(batch).numpy())
    rounded = copy.deepcopy(plain)
    settings = cfg.CalibratedQuantization(weight_bits=2, **how)
    ptq.quantize_and_calibrate(rounded, settings, [batch], reference=copy.deepcopy(plain))
    rounded.eval()
    if accelerated:
        accelerate(rounded, (3, 32, 32))
    state = {name: value.numpy().copy() for name, value in rounded.state_dict().items()}
    floats = Floats(rounded, plain, batch)
    result = effects.of_integers(rounded, floats, [batch], decide, expected)
    integers = decide(rounded(batch).numpy())
    assert result.right == (64, (integers == expected).sum())
    assert result.changed == (integers != expected).sum() > 0
    assert {one.name for one in result.layers} == {"0", "3", "7"}
    for one in result.layers:
        others = [name for name in ("0", "3", "7") if name != one.name]
        alone, restored = (put_in_floats(copy.deepcopy(rounded), plain, names) for names in (others, [one.name]))
        assert one.alone == (decide(alone(batch).numpy()) != expected).sum()
        assert one.restored == (decide(restored(batch).numpy()) != integers).sum()
    plan = {"channels": {"0": (8, 8)}, "macs": (2, 1), "params": (2, 1)}
    with stock():
        pruned = effects.of_pruning(
            plan, rounded, floats, effects.Origin("before", plain, decide), [batch], decide, expected
        )
    assert (pruned.changed, pruned.right) == (0, (64, 64))
    assert pruned.layers == [("0", 8, 8, pytest.approx(1, abs=1e-4))]
    for name, value in rounded.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name], err_msg=name)


def test_without_float_weights_nothing_is_compared_with_them(networks):
    plain, rounded = copy.deepcopy(networks)
    rounded.eval()
    batch, labels = images(17, 1), np.arange(17) % 10
    result = effects.of_integers(rounded, None, [batch], decide, labels)
    assert result.changed is None
    assert result.right == (None, (decide(rounded(batch).numpy()) == labels).sum())
    assert [(one.alone, one.restored) for one in result.layers] == [(None, None)] * len(slim.fake_quantized(rounded))
    plan = {"channels": {"0": (8, 4)}, "macs": (2, 1), "params": (2, 1)}
    pruned = effects.of_pruning(plan, rounded, None, effects.Origin("before", plain, decide), [batch], decide, labels)
    assert (pruned.origin, pruned.changed, pruned.right) == ("", None, None)


def test_outputs_of_layers_are_alike_up_to_rotation_and_scale():
    generator = np.random.default_rng(0)
    outputs, other = generator.normal(size=(200, 6)), generator.normal(size=(200, 4))
    rotation, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    assert effects.similarity(outputs, 3 * outputs @ rotation + 1) == pytest.approx(1)
    assert abs(effects.similarity(outputs, other)) < 0.1
    assert 0.3 < effects.similarity(outputs, outputs[:, :3]) < 1


@pytest.mark.parametrize("images", [20, 200])
def test_layers_of_many_filters_are_not_alike_by_chance(images):
    generator = np.random.default_rng(1)
    found = [
        effects.similarity(generator.normal(size=(images, 256)), generator.normal(size=(images, 128)))
        for _ in range(50)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(50) + 1e-3


def test_the_estimator_is_the_mean_over_four_different_images():
    """Song et al., eq. 4, by summing over all of them."""
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(6, 3)), generator.normal(size=(6, 2))
    k, other = x @ x.T, y @ y.T
    terms = [
        k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    assert effects._hsic(x, y) == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("constant", [np.full((7, 2), 0.1), np.full((7, 3), 1e-30), np.zeros((7, 1))])
def test_a_layer_that_gives_the_same_for_all_images_is_like_nothing(constant):
    outputs = np.random.default_rng(3).normal(size=(7, 2))
    assert np.isnan(effects.similarity(constant, outputs))
    assert np.isnan(effects.similarity(outputs, constant))
    assert np.isnan(effects.similarity(outputs[:3], outputs[:3]))


def test_with_many_labels_a_decision_is_all_of_them():
    decisions = np.array([[1, 0], [0, 0], [1, 1]])
    assert effects.changed(decisions, np.array([[1, 0], [1, 1], [1, 0]])) == 2
