"""Residual blocks in few passes compute what the original blocks do, and are these wherever something is special."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from paddle.vision import ops
from paddle.vision.models import resnet as of_paddle

from runner import config as cfg
from runner import models
from runner.kernels import blocks, functions, native
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import stock
from runner.models import resnet

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
many = settings(max_examples=80, deadline=None)
small = st.integers(1, 9)
KINDS = ["basic", "bottleneck", "thin"]
kinds = pytest.mark.parametrize("kind", KINDS)


@many
@given(
    shape=st.tuples(st.sampled_from([1, 2, 5, 16, 33]), st.integers(1, 20), small, small), training=st.booleans(),
    activation=st.sampled_from(["none", "relu", "relu6"]), wanted=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_normalisation_with_a_shortcut(shape, training, activation, wanted, seed):
    generator, channels = np.random.default_rng(seed), shape[1]
    values = [generator.standard_normal(one).astype(np.float32) for one in (shape, channels, channels, shape)]
    act = {"none": lambda y: y, "relu": F.relu, "relu6": F.relu6}[activation]
    start = [np.linspace(-1, 1, channels, dtype=np.float32), np.linspace(0.5, 2, channels, dtype=np.float32)]
    found = []
    for by_kernels in (True, False):
        x, gamma, beta, shortcut = tensors = [paddle.to_tensor(value, stop_gradient=False) for value in values]
        shortcut.stop_gradient = not wanted
        running = tuple(paddle.to_tensor(value) for value in start)
        if by_kernels:
            maps, other = functions.ToBatchLast.apply(x), functions.ToBatchLast.apply(shortcut)
            number = native.ACTIVATIONS.index(activation)
            y = functions.BatchNorm.apply(maps, gamma, beta, other, running, 1e-5, 0.9, number, training)
            y = functions.ToBatchFirst.apply(y)
        else:
            y = act(F.batch_norm(x, *running, gamma, beta, training, 0.9, 1e-5) + shortcut)
        y.backward(paddle.to_tensor(np.cos(np.arange(y.size)).reshape(y.shape).astype(np.float32)))
        assert (shortcut.grad is not None) == wanted
        found.append([y, *(one.grad for one in tensors if one.grad is not None), *running])
    # Within rounding of 0 a gradient may pass in one of the two only.
    near = np.abs(found[1][0].numpy()) < 1e-5
    if activation == "none" or not near[found[1][0].numpy() != 0].any():
        for ours, theirs in zip(*found, strict=True):
            scale = max(1.0, float(theirs.abs().max()))
            np.testing.assert_allclose(ours.numpy() / scale, theirs.numpy() / scale, rtol=0, atol=1e-4)


class Small(nn.Layer):
    """Three blocks: with the maps as they are, with half the side, and with a shortcut that nothing precedes."""

    def __init__(self, kind):
        super().__init__()
        self.first = nn.Conv2D(3, 16, 3, padding=1)
        if kind == "thin":
            made = [resnet.BasicBlock(16, 16, 1), resnet.BasicBlock(16, 24, 2), resnet.BasicBlock(24, 24, 1)]
        else:
            block = of_paddle.BasicBlock if kind == "basic" else of_paddle.BottleneckBlock
            wide = 16 // block.expansion
            half = nn.Sequential(nn.Conv2D(16, 2 * 16, 1, 2, bias_attr=False), nn.BatchNorm2D(2 * 16))
            made = [block(16, wide), block(16, 2 * wide, 2, half), block(32, 2 * wide)]
        self.blocks, self.mean = nn.Sequential(*made), nn.AdaptiveAvgPool2D(1)
        self.out = nn.Linear(24 if kind == "thin" else 32, 10)

    def forward(self, images):
        return self.out(self.mean(self.blocks(self.first(images))).flatten(1))


def built(kind):
    paddle.seed(0)
    network = Small(kind)
    generator = np.random.default_rng(2)
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            for name, low in (("weight", 0.5), ("bias", -1.0), ("_variance", 0.5), ("_mean", -1.0)):
                value = generator.uniform(low, 1.5, layer.weight.shape).astype(np.float32)
                getattr(layer, name).set_value(value)
    return network


def fast(kind):
    network = built(kind)
    names = list(network.state_dict())
    accelerate(network, (3, 12, 12))
    assert list(network.state_dict()) == names
    assert all(type(block) in blocks.FASTER.values() for block in network.blocks)
    return network


def pictures(dtype="float32"):
    images = np.random.default_rng(1).standard_normal((8, 3, 12, 12)).astype(dtype)
    return paddle.to_tensor(images, stop_gradient=False)


def results(network, images):
    """Logits, the gradients of the images and of every parameter, and the buffers then."""
    logits = network(images)
    weights = paddle.cos(paddle.arange(logits.size, dtype="float32")).reshape(logits.shape).astype(logits.dtype)
    (logits * weights).sum().backward()
    gradients = [images.grad, *(parameter.grad for parameter in network.parameters())]
    found = [None if one is None else one.numpy().copy() for one in (logits, *gradients, *network.buffers())]
    network.clear_gradients()
    images.clear_grad()
    return found


def last_norm(kind, block):
    return {"basic": lambda: block.bn2, "bottleneck": lambda: block.bn3, "thin": lambda: block.conv2.bn}[kind]()


def assert_same(found, expected, tolerance=1e-3):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert np.linalg.norm(ours - theirs) <= tolerance * max(1.0, np.linalg.norm(theirs))


@pytest.fixture
def shortcuts(monkeypatch):
    """Whether a shortcut is added in each normalisation that the kernels compute, and its activation."""
    found, compute = [], functions.BatchNorm.compute

    def counting(ctx, x, gamma, beta, shortcut, *others):
        found.append((shortcut is not None, native.ACTIVATIONS[others[-2]]))
        return compute(ctx, x, gamma, beta, shortcut, *others)

    monkeypatch.setattr(functions.BatchNorm, "compute", staticmethod(counting))
    return found


def assert_paddles(kind, shortcuts, change, fused, dtype="float32"):
    """A fast network changed afterwards gives what a changed plain one gives, with this many blocks fused."""
    for mode in ("train", "eval"):
        plain, network = built(kind), fast(kind)
        for one in (plain, network):
            getattr(one, mode)()
            change(one)
        expected = results(plain, pictures(dtype))
        shortcuts.clear()
        assert_same(results(network, pictures(dtype)), expected)
        assert sum(with_shortcut for with_shortcut, _ in shortcuts) == fused


@kinds
def test_blocks_are_computed_in_as_many_passes_as_they_have_normalisations(kind, shortcuts):
    assert_paddles(kind, shortcuts, lambda network: None, fused=3)
    each = {"basic": [(False, "relu")], "bottleneck": [(False, "relu")] * 2, "thin": [(False, "relu")]}[kind]
    half = [(False, "none")]
    second = [*half, *each] if kind == "thin" else [*each, *half]
    last = [(True, "relu")]
    assert shortcuts == each + last + second + last + each + last


@kinds
def test_frozen_normalisations_of_a_network_that_trains(kind, shortcuts):
    def change(network):
        for layer in network.blocks[1].sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer.eval()
                layer.weight.stop_gradient = layer.bias.stop_gradient = True

    assert_paddles(kind, shortcuts, change, fused=3)


@kinds
def test_nothing_before_a_block_trains(kind, shortcuts):
    def change(network):
        for part in (network.first, network.blocks[0]):
            for parameter in part.parameters():
                parameter.stop_gradient = True

    assert_paddles(kind, shortcuts, change, fused=3)


@kinds
@pytest.mark.parametrize("at", ["norm", "activation"])
def test_a_hook_inside_sees_what_the_original_computes(kind, at, shortcuts):
    def inner(network):
        block = network.blocks[1]
        if at == "activation":
            return block.conv2 if kind == "thin" else block.relu
        return last_norm(kind, block)

    seen = []

    def change(network):
        inner(network).register_forward_post_hook(lambda layer, inputs, output: seen.append(output))

    assert_paddles(kind, shortcuts, change, fused=2)
    # In each mode the plain network comes first; the maps of the fast one have the batch last.
    outputs = [one.numpy() for one in seen]
    calls = len(outputs) // 4
    for start in (0, 2 * calls):
        for number in range(start, start + calls):
            expected = outputs[number].transpose([1, 2, 3, 0])
            np.testing.assert_allclose(outputs[number + calls], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@kinds
def test_a_hook_that_changes_an_output_changes_the_logits(kind, shortcuts):
    def change(network):
        last_norm(kind, network.blocks[2]).register_forward_post_hook(lambda layer, inputs, output: output * 0.5)

    assert_paddles(kind, shortcuts, change, fused=2)


@kinds
def test_other_layers_inside_are_called(kind, shortcuts):
    def change(network):
        block = network.blocks[0]
        parent, name = {"basic": (block, "bn2"), "bottleneck": (block, "bn3"), "thin": (block.conv2, "bn")}[kind]
        setattr(parent, name, nn.Identity())

    assert_paddles(kind, shortcuts, change, fused=2)


@kinds
def test_a_normalisation_of_another_class_is_called(kind, shortcuts):
    # As those are whose statistics are shared between processes.
    def change(network):
        norm = last_norm(kind, network.blocks[0])

        class Doubled(type(norm)):
            def forward(self, x):
                return 2 * super().forward(x)

        norm.__class__ = Doubled

    assert_paddles(kind, shortcuts, change, fused=2)


@kinds
def test_settings_that_the_kernels_do_not_have(kind, shortcuts):
    def change(network):
        last_norm(kind, network.blocks[0])._use_global_stats = True

    assert_paddles(kind, shortcuts, change, fused=2)


@kinds
def test_float64(kind, shortcuts):
    assert_paddles(kind, shortcuts, lambda network: network.to(dtype="float64"), fused=0, dtype="float64")


@kinds
def test_stock_blocks_copies_and_exports(kind, shortcuts, tmp_path):
    network = fast(kind)
    network.eval()
    expected = built(kind)
    expected.eval()
    expected = expected(pictures()).numpy()
    shortcuts.clear()
    with stock():
        np.testing.assert_allclose(network(pictures()).numpy(), expected, rtol=0, atol=1e-5)
    traced = paddle.jit.to_static(copy.deepcopy(network), input_spec=[paddle.static.InputSpec([None, 3, 12, 12])])
    paddle.jit.save(traced, str(tmp_path / "network"))
    assert not shortcuts
    loaded = paddle.jit.load(str(tmp_path / "network"))
    np.testing.assert_allclose(loaded(pictures()).numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(copy.deepcopy(network)(pictures()).numpy(), expected, rtol=0, atol=1e-4)
    assert sum(one for one, _ in shortcuts) == 3


def test_a_convolution_with_its_normalisation_and_activation_is_two_passes(shortcuts):
    network = models.build(cfg.Vision(architecture="mobilenet_v2", kwargs={"scale": 0.25}), 10)
    accelerate(network, (3, 64, 64))
    images = paddle.to_tensor(np.random.default_rng(1).standard_normal((8, 3, 64, 64), dtype=np.float32))
    network.eval()
    with stock():
        expected = network(images).numpy()
    shortcuts.clear()
    np.testing.assert_allclose(network(images).numpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    fused = sum(isinstance(layer, ops.ConvNormActivation) for layer in network.sublayers())
    assert shortcuts.count((False, "relu6")) == fused > 30


@pytest.mark.parametrize("order", ["another norm", "another activation", "hooks"])
def test_other_layers_in_a_convolution_with_its_activation_are_called(order, shortcuts):
    paddle.seed(0)
    block = ops.ConvNormActivation(3, 8)
    network = nn.Sequential(block, nn.Conv2D(8, 4, 1), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(4, 10))
    accelerate(network, (3, 12, 12))
    if order == "another norm":
        block[1] = nn.Identity()
    elif order == "another activation":
        block[2] = nn.Tanh()
    else:
        block[1].register_forward_post_hook(lambda layer, inputs, output: 2 * output)
    network.eval()
    with stock():
        expected = network(pictures()).numpy()
    shortcuts.clear()
    np.testing.assert_allclose(network(pictures()).numpy(), expected, rtol=0, atol=1e-5)
    assert (False, "relu") not in shortcuts


@kinds
def test_a_result_without_a_backward_pass_is_not_kept_in_memory(kind):
    network, images = fast(kind), pictures()

    def allocated():
        return paddle.base.core.host_memory_stat_current_value("Allocated", 0)

    network(images)
    before = allocated()
    for _ in range(3):
        network(images)
    assert allocated() == before
