"""Every kernel equals Paddle's own operator, forward and gradients, over random shapes."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import FakeQuantMovingAverageAbsMax

from runner.compression.qat import Pact
from runner.kernels import functions, native
from runner.kernels.layers import Clip, FakeQuantize
from runner.kernels.native import Geometry

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
many = settings(max_examples=80, deadline=None)
small = st.integers(1, 9)


def numbers(shape, seed) -> Tensor:
    tensor = paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))
    tensor.stop_gradient = False
    return tensor


def with_gradients(compute, *inputs: Tensor) -> list[np.ndarray]:
    """What `compute` returns, and the gradients of its inputs for a gradient that differs at every place."""
    output = compute(*inputs)
    output.backward(paddle.cos(paddle.arange(output.size, dtype="float32")).reshape(output.shape).astype(output.dtype))
    result = [output.numpy(), *(tensor.grad.numpy() for tensor in inputs)]
    for tensor in inputs:
        tensor.clear_grad()
    return result


def batch_last(compute):
    """`compute` on maps with the batch last, as a function of maps with the batch first."""

    def converted(x: Tensor, *others: Tensor) -> Tensor:
        return functions.ToBatchFirst.apply(compute(functions.ToBatchLast.apply(x), *others))

    return converted


def assert_same(found, expected, tolerance=1e-4):
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance)


@many
@given(
    batch=st.sampled_from([1, 2, 5, 16, 33, 70]), groups=st.integers(1, 3), inputs=st.integers(1, 5),
    outputs=st.integers(1, 5), height=small, width=small, kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2), bias=st.booleans(), depthwise=st.booleans(),
)  # fmt: skip
def test_convolutions(
    batch, groups, inputs, outputs, height, width, kernel, stride, padding, dilation, bias, depthwise
):
    if depthwise:
        inputs, outputs = 1, 1
    for side, size, pad in zip((height, width), kernel, padding, strict=True):
        assume(side + 2 * pad >= dilation * (size - 1) + 1)
    geometry = Geometry(
        batch, groups * inputs, height, width, groups * outputs, kernel, stride, padding, (dilation,) * 2, groups
    )
    tensors = [numbers((batch, groups * inputs, height, width), 0), numbers((groups * outputs, inputs, *kernel), 1)]
    if bias:
        tensors.append(numbers((groups * outputs,), 2))

    def by_kernels(x, weight, bias=None):
        return functions.Convolution.apply(x, weight, bias, geometry)

    def by_paddle(x, weight, bias=None):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    assert_same(with_gradients(batch_last(by_kernels), *tensors), with_gradients(by_paddle, *tensors))


@many
@given(
    batch=st.sampled_from([4, 5, 16, 33, 70]), channels=st.integers(32, 40), filters=st.integers(32, 40),
    height=st.integers(3, 13), width=st.integers(4, 13), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    bias=st.booleans(),
)  # fmt: skip
def test_winograd_convolutions(batch, channels, filters, height, width, padding, bias):
    geometry = Geometry(batch, channels, height, width, filters, (3, 3), (1, 1), padding, (1, 1), 1)
    tensors = [numbers((batch, channels, height, width), 0), numbers((filters, channels, 3, 3), 1)]
    if bias:
        tensors.append(numbers((filters,), 2))

    def by_kernels(x, weight, bias=None):
        return functions.Convolution.apply(x, weight, bias, geometry)

    def by_paddle(x, weight, bias=None):
        return F.conv2d(x, weight, bias, 1, padding)

    assert_same(with_gradients(batch_last(by_kernels), *tensors), with_gradients(by_paddle, *tensors))


@pytest.mark.parametrize("channels", [64, 300])
def test_winograd_convolutions_are_as_exact_as_float32_is(channels):
    geometry = Geometry(16, channels, 14, 14, channels, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    tensors = [numbers((16, channels, 14, 14), 0), numbers((channels, channels, 3, 3), 1)]
    exact = [tensor.detach().astype("float64") for tensor in tensors]
    for tensor in exact:
        tensor.stop_gradient = False
    found = with_gradients(
        batch_last(lambda x, weight: functions.Convolution.apply(x, weight, None, geometry)), *tensors
    )
    for ours, theirs in zip(
        found, with_gradients(lambda x, weight: F.conv2d(x, weight, None, 1, 1), *exact), strict=True
    ):
        assert np.abs(ours - theirs).max() < 1e-5 * theirs.std()


@many
@given(
    batch=st.sampled_from([1, 2, 3, 17, 64]), channels=small, height=small, width=small, training=st.booleans(),
    activation=st.sampled_from(native.ACTIVATIONS), momentum=st.floats(0, 1),
)  # fmt: skip
def test_normalisation_and_activation(batch, channels, height, width, training, activation, momentum):
    x, gamma, beta = numbers((batch, channels, height, width), 0), numbers(channels, 1), numbers(channels, 2)
    start = [np.linspace(-1, 1, channels, dtype=np.float32), np.linspace(0.5, 2, channels, dtype=np.float32)]
    running = [[paddle.to_tensor(value) for value in start] for _ in range(2)]
    act = (lambda y: y) if activation == "none" else getattr(F, activation)

    def by_kernels(x, gamma, beta):
        return functions.BatchNorm.apply(
            x, gamma, beta, None, tuple(running[0]), 1e-5, momentum, native.ACTIVATIONS.index(activation), training
        )

    def by_paddle(x, gamma, beta):
        return act(F.batch_norm(x, *running[1], gamma, beta, training, momentum, 1e-5))

    assert_same(with_gradients(batch_last(by_kernels), x, gamma, beta), with_gradients(by_paddle, x, gamma, beta), 1e-4)
    assert_same([value.numpy() for value in running[0]], [value.numpy() for value in running[1]])


@pytest.mark.parametrize("shape", [(8, 16, 16, 16), (33, 5, 7, 9), (64, 4, 64, 64)])
@pytest.mark.parametrize("ratio", [0.0, 1e2, 1e4, 1e6])
def test_normalisation_far_from_zero_is_as_exact_as_paddles(shape, ratio):
    generator = np.random.default_rng(0)
    x = (generator.standard_normal(shape) + ratio).astype(np.float32)
    scale, shift = generator.standard_normal((2, shape[1])).astype(np.float32)

    def computed(dtype, by_kernels):
        tensors = [paddle.to_tensor(value.astype(dtype), stop_gradient=False) for value in (x, scale, shift)]
        running = [paddle.zeros(shape[1:2], dtype), paddle.ones(shape[1:2], dtype)]

        def ours(x, gamma, beta):
            return functions.BatchNorm.apply(x, gamma, beta, None, tuple(running), 1e-5, 0.9, 0, True)

        def theirs(x, gamma, beta):
            return F.batch_norm(x, *running, gamma, beta, True, 0.9, 1e-5)

        y, dx, *_ = with_gradients(batch_last(ours) if by_kernels else theirs, *tensors)
        return [y, dx, *(value.numpy() for value in running)]

    exact = computed("float64", by_kernels=False)
    ours, theirs = (
        [np.abs(value - right).max() / np.abs(right).max() for value, right in zip(found, exact, strict=True)]
        for found in (computed("float32", by_kernels=True), computed("float32", by_kernels=False))
    )
    # Both begin with a mean that is rounded to float32.
    assert all(own <= max(other, 3e-7) for own, other in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.parametrize("first", [1e6, float("inf"), float("nan")])
def test_the_first_value_of_a_row_may_be_far_from_the_others(first):
    x = numbers((2, 3, 20, 50), 0).detach()
    x[0, :, 0, 0] = first
    running = [[paddle.zeros([3]), paddle.ones([3])] for _ in range(2)]
    gamma, beta = paddle.ones([3]), paddle.zeros([3])
    ours = batch_last(lambda x: functions.BatchNorm.apply(x, gamma, beta, None, tuple(running[0]), 1e-5, 0.9, 0, True))
    found, expected = ours(x).numpy(), F.batch_norm(x, *running[1], gamma, beta, True, 0.9, 1e-5).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for own, other in zip(*running, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), rtol=1e-5)


@many
@given(
    batch=st.sampled_from([1, 3, 16, 40]), channels=small, height=small, width=small, kernel=st.integers(1, 4),
    stride=st.integers(1, 3), padding=st.integers(0, 2),
)  # fmt: skip
def test_max_pooling(batch, channels, height, width, kernel, stride, padding):
    assume(min(height, width) + 2 * padding >= kernel > padding)
    geometry = Geometry(
        batch, channels, height, width, channels, (kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), channels
    )
    x = numbers((batch, channels, height, width), 0)
    ours = with_gradients(batch_last(lambda x: functions.MaxPool.apply(x, geometry)), x)
    assert_same(ours, with_gradients(lambda x: F.max_pool2d(x, kernel, stride, padding), x), 0)


@many
@given(batch=st.sampled_from([1, 5, 16, 50]), channels=small, height=small, width=small)
def test_mean_pooling_and_gates(batch, channels, height, width):
    x, gates = numbers((batch, channels, height, width), 0), numbers((batch, channels, 1, 1), 1)
    assert_same(
        with_gradients(batch_last(functions.MeanPool.apply), x),
        with_gradients(lambda x: F.adaptive_avg_pool2d(x, 1), x),
    )

    def gated(x, gates):
        return functions.Gate.apply(x, functions.ToBatchLast.apply(gates))

    assert_same(with_gradients(batch_last(gated), x, gates), with_gradients(lambda x, gates: x * gates, x, gates))


@many
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.floats(-2, 2).filter(lambda alpha: abs(alpha) > 0.01))
def test_clips(shape, alpha):
    plain, fast = Pact(), Pact()
    fast.__class__ = Clip
    results = []
    for layer in (plain, fast):
        layer.alpha.set_value(paddle.full([1], alpha))
        results.append([*with_gradients(layer, numbers(shape, 0)), layer.alpha.grad.numpy()])
    # The sum over all values is rounded at every step, in another order.
    assert_same(results[1], results[0], 2e-4)


@many
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(2, 8), st.integers(1, 3), st.booleans())
def test_fake_quantization_gives_the_same_integers_and_ranges(shape, bits, steps, training):
    plain = FakeQuantMovingAverageAbsMax(quant_bits=bits)
    fast = FakeQuantMovingAverageAbsMax(quant_bits=bits)
    fast.__class__ = FakeQuantize
    for layer in (plain, fast):
        layer.train() if training else layer.eval()
    for step in range(steps):
        x = numbers(shape, step)
        for ours, theirs in zip(with_gradients(fast, x), with_gradients(plain, x), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for name in ("_scale", "_accum", "_state"):
        np.testing.assert_array_equal(getattr(fast, name).numpy(), getattr(plain, name).numpy())


def test_what_is_not_a_number_stays_visible():
    x = numbers((4, 2, 3, 3), 0)
    x.stop_gradient = True
    x[1, 1, 2, 2] = float("nan")
    x = functions.ToBatchLast.apply(x.detach())
    gamma, beta, average, variance = (paddle.ones([2]) for _ in range(4))
    for activation in range(len(native.ACTIVATIONS)):
        for training in (True, False):
            y = functions.BatchNorm.apply(x, gamma, beta, None, (average, variance), 1e-5, 0.9, activation, training)
            assert paddle.isnan(y).any()
    assert paddle.isnan(functions.MaxPool.apply(x, Geometry(4, 2, 3, 3, 2, (3, 3), (1, 1), (0, 0), (1, 1), 2))).any()
    assert paddle.isnan(functions.Clip.apply(x, paddle.ones([1]))).any()


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(frozen):
    layer = nn.Conv2D(3, 4, 3)
    getattr(layer, frozen).stop_gradient = True
    x = numbers((3, 8, 8, 2), 0)
    geometry = Geometry(2, 3, 8, 8, 4, (3, 3), (1, 1), (0, 0), (1, 1), 1)
    functions.Convolution.apply(x, layer.weight, layer.bias, geometry).sum().backward()
    for name in ("weight", "bias"):
        assert (getattr(layer, name).grad is None) == (name == frozen)
    assert x.grad is not None


def test_strided_inputs_and_gradients_are_read_in_their_order():
    x, weight = numbers((6, 5, 4, 3), 0), numbers((2, 6, 1, 1), 1)
    plain = Geometry(3, 6, 5, 4, 2, (1, 1), (1, 1), (0, 0), (1, 1), 1)
    turned = Geometry(3, 6, 4, 5, 2, (1, 1), (1, 1), (0, 0), (1, 1), 1)

    def on_a_view(x, weight):
        return functions.Convolution.apply(x.transpose([0, 2, 1, 3]), weight, None, turned)

    def before_a_view(x, weight):
        return functions.Convolution.apply(x, weight, None, plain).transpose([0, 2, 1, 3])

    assert_same(with_gradients(on_a_view, x, weight), with_gradients(before_a_view, x, weight))


@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_labels_that_are_no_class_are_refused(label):
    labels = paddle.to_tensor([0, 4, label, 1])
    with pytest.raises(ValueError, match=f"label {label} is not one of the 5 classes"):
        functions.hits(paddle.rand([4, 5]), labels, 3)


def test_labels_of_another_type_or_shape_are_refused():
    for labels in (paddle.zeros([4], "int32"), paddle.zeros([3], "int64"), paddle.zeros([4, 1], "int64")):
        with pytest.raises(ValueError, match=r"labels are int64 \[4\], not"):
            functions.hits(paddle.rand([4, 5]), labels, 3)


def test_shapes_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="nothing is left of maps of 2x2 pixels"):
        Geometry(4, 3, 2, 2, 5, (3, 3), (1, 1), (0, 0), (1, 1), 1)
