"""GELU and layer normalisation are as exact as float32 allows, and equal Paddle's, forward and gradients."""

from __future__ import annotations

import copy
import ctypes
import math

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from scipy.special import ndtr

from runner.kernels import build, layers, native, tokens
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import WORTH_A_CALL, stock

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
many = settings(max_examples=60, deadline=None)
shapes = st.lists(st.integers(0, 19), min_size=1, max_size=3)


def results(compute, *values, transposed=False):
    """Output, and the gradient of each input that is not None, for a gradient that differs at every place."""
    tensors = [None if value is None else paddle.to_tensor(value, stop_gradient=False) for value in values]
    x, *others = tensors
    if transposed:
        # The same values, in memory in another order, and so is the gradient that arrives.
        axes = list(range(x.ndim))[::-1]
        x = paddle.to_tensor(np.ascontiguousarray(values[0].transpose(axes)), stop_gradient=False)
        y = compute(x.transpose(axes), *others)
        y.transpose(axes).backward(paddle.to_tensor(np.ascontiguousarray(upstream(y).transpose(axes))))
        return [y.numpy(), x.grad.numpy().transpose(axes), *(t.grad.numpy() for t in others if t is not None)]
    y = compute(x, *others)
    y.backward(paddle.to_tensor(upstream(y)))
    return [y.numpy(), *(tensor.grad.numpy() for tensor in tensors if tensor is not None)]


def upstream(y):
    return np.cos(np.arange(y.size)).reshape(y.shape).astype(np.float32)


def gelu_in_float64(x):
    x = x.astype(np.float64)
    slope = ndtr(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return [x * ndtr(x), slope * upstream(x)]


def norm_in_float64(x, gamma, beta, size, epsilon):
    """The output and the gradients of the inputs that are not None."""
    dy = upstream(x).reshape(-1, size).astype(np.float64)
    rows = x.astype(np.float64).reshape(-1, size)
    away = rows - rows.mean(1, keepdims=True)
    rate = 1 / np.sqrt((away**2).mean(1, keepdims=True) + epsilon)
    normal = away * rate
    scale = 1 if gamma is None else gamma.astype(np.float64)
    inner = dy * scale
    dx = rate * (inner - inner.mean(1, keepdims=True) - normal * (inner * normal).mean(1, keepdims=True))
    y = normal * scale + (0 if beta is None else beta)
    found = [y.reshape(x.shape), dx.reshape(x.shape)]
    found += [] if gamma is None else [(dy * normal).sum(0)]
    return found + ([] if beta is None else [dy.sum(0)])


def assert_close(found, expected, tolerance):
    for ours, right in zip(found, expected, strict=True):
        assert ours.shape == right.shape
        scale = max(1.0, np.abs(right).max(initial=0.0))
        np.testing.assert_allclose(ours / scale, right / scale, rtol=0, atol=tolerance)


@many
@given(
    leading=st.lists(st.integers(1, 7), max_size=2), rows=st.one_of(st.integers(1, 70), st.integers(4096, 5000)),
    inputs=st.integers(1, 150), outputs=st.integers(1, 150), has_bias=st.booleans(), transposed=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_linear_layers_are_products_of_matrices(leading, rows, inputs, outputs, has_bias, transposed, seed):
    generator = np.random.default_rng(seed)
    # Depths beyond a block of the kernels, of either kind.
    leading = leading if rows < 100 else []
    shapes = [[*leading, rows, inputs], [inputs, outputs], [outputs]]
    x, weight, bias = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    bias = bias if has_bias else None
    found = results(tokens.Linear.apply, x, weight, bias, transposed=transposed)
    exact = [None if one is None else one.astype(np.float64) for one in (x, weight, bias)]
    y = exact[0] @ exact[1] + (exact[2] if has_bias else 0)
    dy = upstream(y).astype(np.float64)
    expected = [y, dy @ exact[1].T, exact[0].reshape(-1, inputs).T @ dy.reshape(-1, outputs)]
    assert_close(found[:3], expected, 2e-5)
    # These sums of as many terms as there are rows cancel, and keep the rounding of what was summed.
    sums = [dy.reshape(-1, outputs).sum(0)] if has_bias else []
    assert_close(found[3:], sums, 2e-6 * math.sqrt(dy.size / outputs))


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_a_frozen_part_of_a_linear_layer_gets_no_gradient(frozen):
    tensors = {name: paddle.randn(shape) for name, shape in (("x", [9, 40]), ("weight", [40, 50]), ("bias", [50]))}
    for name, tensor in tensors.items():
        tensor.stop_gradient = name == frozen
    tokens.Linear.apply(*tensors.values()).sum().backward()
    assert [name for name, tensor in tensors.items() if tensor.grad is None] == [frozen]


@many
@given(shape=shapes, scale=st.sampled_from([1e-3, 1.0, 30.0, 1e10]), transposed=st.booleans(), seed=st.integers(0, 99))
def test_gelu_is_exact_and_paddles(shape, scale, transposed, seed):
    x = (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    found = results(tokens.Gelu.apply, x, transposed=transposed)
    assert_close(found, gelu_in_float64(x), 1e-6)
    if x.size:
        assert_close(found, results(F.gelu, x), 2e-6)


def test_gelu_is_exact_to_a_few_units_in_the_last_place_where_paddles_cancels():
    x = np.concatenate([np.linspace(-13, 13, 100_001), np.geomspace(1e-30, 1, 1001)]).astype(np.float32)
    y, _ = results(tokens.Gelu.apply, x)
    right, _ = gelu_in_float64(x)
    at = right != 0
    assert np.abs(y[at] / right[at] - 1).max() < 1e-6


def test_gelu_of_what_is_not_finite_is_paddles():
    x = np.array([np.inf, -np.inf, np.nan, 1e38, -1e38, 0.0, -0.0], np.float32)
    for ours, theirs in zip(results(tokens.Gelu.apply, x), results(F.gelu, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=0)


@many
@given(
    rows=shapes, last=st.lists(st.integers(1, 40), min_size=1, max_size=2), gamma=st.booleans(), beta=st.booleans(),
    far=st.sampled_from([0.0, 10.0, 1e4]), transposed=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_layer_normalisation_is_exact_and_paddles(rows, last, gamma, beta, far, transposed, seed):
    generator, size = np.random.default_rng(seed), math.prod(last)
    x = (generator.standard_normal([*rows, *last]) + far).astype(np.float32)
    scale, shift = generator.standard_normal((2, size)).astype(np.float32)
    values = [x, scale if gamma else None, shift if beta else None]

    def by_kernels(x, gamma, beta):
        return tokens.LayerNorm.apply(x, gamma, beta, size, 1e-5)

    found = results(by_kernels, *values, transposed=transposed)
    # Rows of one value, or of a few nearly equal ones, have a slope of up to 1 / √ε, by which the rounding of products
    # up to 4 is multiplied. Gradients of 32 rows, which may cancel, are summed in float32.
    assert_close(found, norm_in_float64(*values, size, 1e-5), 2**-22 / math.sqrt(1e-5) if size < 8 else 2e-5)
    if x.size and size > 7 and not far:
        theirs = results(lambda x, gamma, beta: F.layer_norm(x, last, gamma, beta, 1e-5), *values)
        assert_close(found, theirs, 2e-5)


def test_no_rows_give_gradients_of_zero():
    x, ones = np.zeros([0, 5], np.float32), np.ones([5], np.float32)
    found = results(lambda x, gamma, beta: tokens.LayerNorm.apply(x, gamma, beta, 5, 1e-5), x, ones, ones)
    assert [one.shape for one in found] == [(0, 5), (0, 5), (5,), (5,)]
    assert not any(one.any() for one in found)


def test_any_number_of_threads_gives_the_same_bits():
    generator = np.random.default_rng(0)
    x, (scale, shift) = generator.standard_normal([301, 390], np.float32), generator.standard_normal((2, 390))
    values = [x, scale.astype(np.float32), shift.astype(np.float32)]
    threads = ctypes.CDLL(str(build._paddle_libraries() / "libiomp5.so"))
    before, found = native.kernels().threads(), []
    try:
        for number in (1, 2, 3, 3):
            threads.omp_set_num_threads(number)
            assert native.kernels().threads() == number
            norm = results(lambda x, gamma, beta: tokens.LayerNorm.apply(x, gamma, beta, 390, 1e-5), *values)
            found.append([*norm, *results(tokens.Gelu.apply, x)])
    finally:
        threads.omp_set_num_threads(before)
    for one in found[1:]:
        for ours, first in zip(one, found[0], strict=True):
            np.testing.assert_array_equal(ours, first)


class Block(nn.Layer):
    """A convolution into tokens, their normalisation and GELU, and logits."""

    def __init__(self, frozen=()):
        super().__init__()
        self.first, self.norm, self.gelu = nn.Conv2D(3, 48, 4, 4), nn.LayerNorm(48), nn.GELU()
        self.tanh, self.out = nn.GELU(approximate=True), nn.Linear(48, 10)
        for name in frozen:
            getattr(self.norm, name).stop_gradient = True

    def forward(self, images):
        features = self.first(images).flatten(2).transpose([0, 2, 1])
        return self.out(self.tanh(self.gelu(self.norm(features))).mean(1))


def built(frozen=()):
    paddle.seed(0)
    network = Block(frozen)
    accelerate(network, (3, 32, 32))
    assert type(network.norm) is layers.LayerNorm
    assert type(network.gelu) is layers.GELU
    return network


def pictures(count=32):
    assert count * 64 * 48 >= WORTH_A_CALL
    return paddle.to_tensor(np.random.default_rng(1).standard_normal((count, 3, 32, 32), dtype=np.float32))


def gradients(network):
    logits = network(pictures())
    F.cross_entropy(logits, paddle.arange(32) % 10).backward()
    found = [logits.numpy(), *(None if p.grad is None else p.grad.numpy() for p in network.parameters())]
    network.clear_gradients()
    return found


@pytest.mark.parametrize("frozen", [[], ["weight"], ["bias"], ["weight", "bias"]])
def test_a_network_has_paddles_logits_and_gradients(frozen, monkeypatch):
    network, calls = built(frozen), []
    for function in (tokens.Gelu, tokens.LayerNorm):
        monkeypatch.setattr(function, "compute", counted(function.compute, calls))
    found = gradients(network)
    # The approximate GELU is Paddle's.
    assert len(calls) == 2
    with stock():
        expected = gradients(network)
    assert len(calls) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1.0, np.abs(theirs).max()))


def counted(compute, calls):
    def counting(*arguments):
        calls.append(arguments)
        return compute(*arguments)

    return staticmethod(counting)


def test_copies_compiled_and_exported_networks_compute_the_same(tmp_path):
    network = built()
    network.eval()
    expected = network(pictures()).numpy()
    np.testing.assert_array_equal(copy.deepcopy(network)(pictures()).numpy(), expected)
    traced = paddle.jit.to_static(network, input_spec=[paddle.static.InputSpec([None, 3, 32, 32])])
    np.testing.assert_allclose(traced(pictures()).numpy(), expected, rtol=0, atol=1e-5)
    paddle.jit.save(traced, str(tmp_path / "network"))
    loaded = paddle.jit.load(str(tmp_path / "network"))
    np.testing.assert_allclose(loaded(pictures()).numpy(), expected, rtol=0, atol=1e-5)


def test_few_values_other_types_and_other_shapes_are_paddles():
    gelu, norm = nn.GELU(), nn.LayerNorm([4, 12])
    few, wide, wrong = paddle.randn([8, 4, 12]), paddle.randn([800, 4, 12], "float64"), paddle.randn([800, 3, 16])
    expected = [gelu(few).numpy(), norm(few).numpy(), gelu(wide).numpy()]
    with pytest.raises(ValueError, match="shape") as message:
        norm(wrong)
    gelu.__class__, norm.__class__ = layers.GELU, layers.LayerNorm
    for one, other in zip([gelu(few), norm(few), gelu(wide)], expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
    with pytest.raises(ValueError, match="shape") as ours:
        norm(wrong)
    assert str(ours.value) == str(message.value)
