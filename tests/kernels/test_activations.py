"""Activations by the kernels equal Paddle's, forward and gradients, whatever the shape and the values."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from runner.kernels import activations, native
from runner.kernels.accelerate import accelerate
from runner.kernels.activations import FASTER, Activation
from runner.kernels.layers import WORTH_A_CALL, stock

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
many = settings(max_examples=60, deadline=None)
FUNCTIONS = {"relu": F.relu, "relu6": F.relu6, "hardswish": F.hardswish, "swish": F.swish}
names = pytest.mark.parametrize("name", FUNCTIONS)


def results(compute, x, transposed=False):
    """Output and gradient, for a gradient that differs at every place."""
    axes = list(range(x.ndim))[::-1] if transposed else list(range(x.ndim))
    # The same values, in memory in another order, and so is the gradient that arrives.
    own = paddle.to_tensor(np.ascontiguousarray(x.transpose(axes)), stop_gradient=False)
    y = compute(own.transpose(axes) if transposed else own)
    dy = np.cos(np.arange(x.size)).reshape(x.shape).astype(np.float32)
    (y.transpose(axes) if transposed else y).backward(paddle.to_tensor(np.ascontiguousarray(dy.transpose(axes))))
    return [y.numpy(), own.grad.numpy().transpose(axes)]


def by_kernels(name):
    return lambda x: Activation.apply(x, native.ACTIVATIONS.index(name))


@names
@many
@given(
    shape=st.lists(st.integers(0, 19), min_size=1, max_size=4), scale=st.sampled_from([1e-3, 1.0, 5.0, 30.0, 1e10]),
    transposed=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_are_paddles(name, shape, scale, transposed, seed):
    x = (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    found = results(by_kernels(name), x, transposed)
    if name == "swish" and scale > 1e6:
        # Paddle's own gradient has no digits left there.
        np.testing.assert_array_equal(found[0], np.where(x > 0, x, -0.0))
    elif x.size:
        for ours, theirs in zip(found, results(FUNCTIONS[name], x), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@names
def test_the_slope_at_a_kink_is_paddles(name):
    x = np.repeat(np.array([0.0, -0.0, 3, -3, 6, -6, 2.9999998, -2.9999998, 1e-40], np.float32), 16)
    for ours, theirs in zip(results(by_kernels(name), x), results(FUNCTIONS[name], x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=0)


@names
def test_what_is_not_finite_stays_visible(name):
    x = np.array([np.nan, np.inf, -np.inf] * 17, np.float32)
    y, _ = results(by_kernels(name), x)
    expected = FUNCTIONS[name](paddle.to_tensor(x)).numpy()
    # Paddle's ReLU of what is not a number is 0.
    expected[np.isnan(x)] = np.nan
    np.testing.assert_array_equal(y, expected)


@names
def test_a_result_without_a_backward_pass_is_not_kept_in_memory(name):
    x = paddle.ones([1 << 18])
    x.stop_gradient = False

    def allocated():
        return paddle.base.core.host_memory_stat_current_value("Allocated", 0)

    before = allocated()
    for _ in range(3):
        by_kernels(name)(x)
    assert allocated() == before


@names
def test_a_change_in_place_is_refused_as_by_paddle(name):
    for compute in (by_kernels(name), FUNCTIONS[name]):
        x = paddle.ones([64])
        x.stop_gradient = False
        inner = x * 1
        y = compute(inner)
        (y if "relu" in name else inner).add_(paddle.ones([64]))
        with pytest.raises((RuntimeError, OSError), match="in-place|inplace|modified"):
            y.sum().backward()


class Block(nn.Layer):
    """All activations behind each other."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2D(3, 48, 4, 4)
        self.acts = nn.Sequential(nn.Silu(), nn.Hardswish(), nn.Swish(), nn.ReLU6(), nn.ReLU(), nn.Sigmoid())
        self.out = nn.Linear(48, 10)

    def forward(self, images):
        return self.out(self.acts(self.first(images)).mean([2, 3]))


def calls(monkeypatch):
    """The kinds of activations that the kernels compute from now on."""
    found, compute = [], Activation.compute

    def counting(ctx, x, kind):
        found.append(native.ACTIVATIONS[kind])
        return compute(ctx, x, kind)

    monkeypatch.setattr(Activation, "compute", staticmethod(counting))
    return found


def gradients(network, images):
    logits = network(images)
    (logits * paddle.cos(paddle.arange(logits.size, dtype="float32")).reshape(logits.shape)).sum().backward()
    found = [logits.numpy(), *(parameter.grad.numpy() for parameter in network.parameters())]
    network.clear_gradients()
    return found


def test_a_network_computes_them_by_kernels_and_has_paddles_gradients(monkeypatch, tmp_path):
    network, kinds = Block(), calls(monkeypatch)
    names = list(network.state_dict())
    accelerate(network, (3, 32, 32))
    assert list(network.state_dict()) == names
    kinds.clear()
    images = paddle.to_tensor(np.random.default_rng(1).standard_normal((32, 3, 32, 32), dtype=np.float32))
    assert images.shape[0] * 48 * 64 >= WORTH_A_CALL
    found = gradients(network, images)
    assert kinds == ["swish", "hardswish", "swish", "relu6", "relu"]
    with stock():
        expected = gradients(network, images)
    assert len(kinds) == 5
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1.0, np.abs(theirs).max()))
    network.eval()
    traced = paddle.jit.to_static(network, input_spec=[paddle.static.InputSpec([None, 3, 32, 32])])
    paddle.jit.save(traced, str(tmp_path / "network"))
    loaded = paddle.jit.load(str(tmp_path / "network"))
    np.testing.assert_allclose(loaded(images).numpy(), found[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FASTER)
def test_few_values_and_other_types_are_paddles(kind, monkeypatch):
    kinds, layer = calls(monkeypatch), kind()
    few, wide = paddle.randn([100]), paddle.randn([WORTH_A_CALL], "float64")
    expected = [layer(few).numpy(), layer(wide).numpy()]
    layer.__class__ = FASTER[kind]
    for x, y in zip((few, wide), expected, strict=True):
        np.testing.assert_array_equal(layer(x).numpy(), y)
    assert not kinds
    layer(paddle.randn([WORTH_A_CALL]))
    assert len(kinds) == 1


def test_a_silu_in_place_is_paddles(monkeypatch):
    kinds, layer = calls(monkeypatch), nn.Silu(inplace=True)
    layer.__class__ = activations.Silu
    x = paddle.randn([WORTH_A_CALL])
    assert layer(x) is x or layer(x).data_ptr() == x.data_ptr()
    assert not kinds
