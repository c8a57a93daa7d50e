"""An accelerated layer does what Paddle's does in the corners too, or says that it does not."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle.nn.quant.quant_layers import FakeQuantMovingAverageAbsMax

from runner.compression.qat import Pact
from runner.kernels import layers, native
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import Accelerated, stock
from runner.models.mobilenet_v3 import ActivatedNorm

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")


class Small(nn.Layer):
    """A layer of each kind."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.pool = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.MaxPool2D(2)
        self.depthwise, self.active = nn.Conv2D(8, 8, 3, groups=8), ActivatedNorm(8, F.hardswish)
        self.mean, self.out = nn.AdaptiveAvgPool2D(1), nn.Linear(8, 10)

    def forward(self, images):
        features = self.pool(F.relu(self.norm(self.first(images))))
        return self.out(self.mean(self.active(self.depthwise(features))).flatten(1))


def built(dtype="float32"):
    paddle.seed(0)
    network = Small()
    generator = np.random.default_rng(2)
    for norm in (network.norm, network.active):
        norm.weight.set_value(generator.uniform(0.5, 1.5, 8).astype(np.float32))
        norm.bias.set_value(generator.uniform(-1, 1, 8).astype(np.float32))
    return network.to(dtype=dtype)


def pictures(count=4, side=12, dtype="float32"):
    images = paddle.to_tensor(np.random.default_rng(1).standard_normal((count, 3, side, side)).astype(np.float32))
    images = images.astype(dtype)
    images.stop_gradient = False
    return images


def arrays(tensors):
    return [None if tensor is None else tensor.astype("float64").numpy() for tensor in tensors]


def results(network, images):
    """Logits, the gradients of the images and of every parameter, and the buffers then."""
    logits = network(images)
    weights = paddle.cos(paddle.arange(logits.size, dtype="float32")).reshape(logits.shape).astype(logits.dtype)
    (logits * weights).sum().backward()
    gradients = [images.grad, *(parameter.grad for parameter in network.parameters())]
    found = arrays([logits, *gradients, *network.buffers()])
    network.clear_gradients()
    images.clear_grad()
    return found


def assert_same(found, expected, tolerance=1e-4):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1, np.abs(theirs).max()))


def assert_paddles(change=lambda network: None, images=None, modes=("train", "eval"), dtype="float32"):
    """An accelerated network that is changed afterwards gives what a plain one gives that is changed as well."""
    images = pictures(dtype=dtype) if images is None else images
    plain, fast = built(), built()
    accelerate(fast, tuple(images.shape[1:]))
    assert any(isinstance(layer, Accelerated) for layer in fast.sublayers())
    for mode in modes:
        for network in (plain, fast):
            getattr(network, mode)()
            change(network)
        expected = results(plain, images)
        assert_same(results(fast, images), expected)
    return fast


@pytest.mark.parametrize("activation", [lambda y: y, F.relu, F.hardswish, F.swish, F.tanh])
@pytest.mark.parametrize("training", [True, False])
def test_one_value_a_channel_is_left_as_it_is_and_so_are_the_running_averages(activation, training):
    layers_ = [ActivatedNorm(20, activation) for _ in range(2)]
    generator = np.random.default_rng(0)
    values = {
        name: generator.uniform(0.5, 2, [20]).astype(np.float32) for name in ("weight", "bias", "_mean", "_variance")
    }
    layers_[1].__class__ = layers.FusedNorm
    found = []
    for layer, axes in zip(layers_, ((0, 1, 2, 3), (1, 2, 3, 0)), strict=True):
        layer.training = training
        for name, value in values.items():
            getattr(layer, name).set_value(value)
        x = paddle.to_tensor(np.linspace(-5, 5, 20, dtype=np.float32).reshape([1, 20, 1, 1]), stop_gradient=False)
        y = layer(x.transpose(axes))
        (y * paddle.arange(20, dtype="float32").reshape([1, 20, 1, 1]).transpose(axes)).sum().backward()
        found.append(arrays([y, x.grad, layer.weight.grad, layer.bias.grad, layer._mean, layer._variance]))
    assert found[1][0].shape == (20, 1, 1, 1)
    found[1][0] = found[1][0].transpose(3, 0, 1, 2)
    # What is not normalised is the same bit for bit; Paddle's own rounding of the activation is left.
    assert_same(found[1], found[0], 1e-6)
    if training:
        np.testing.assert_array_equal(found[1][4], values["_mean"])


def test_a_last_batch_of_one_image_trains_as_with_paddle():
    # 3×3 behind the pooling, 1×1 behind the depthwise convolution.
    assert_paddles(images=pictures(1, 6))


@pytest.mark.parametrize("value", [None, True, False])
def test_use_global_stats_may_be_set_after_acceleration(value):
    def change(network):
        network.norm._use_global_stats = network.active._use_global_stats = value

    assert_paddles(change)


@pytest.mark.parametrize("frozen", [["weight"], ["bias"], ["weight", "bias"]])
def test_half_frozen_normalisations_have_the_gradients_that_paddle_gives_them(frozen):
    def change(network):
        for norm in (network.norm, network.active):
            for name in frozen:
                getattr(norm, name).stop_gradient = True

    assert_paddles(change)


def test_networks_that_become_float64_after_acceleration_compute_in_float64():
    fast = assert_paddles(lambda network: network.to(dtype="float64"), dtype="float64")
    assert fast(pictures(dtype="float64")).dtype == paddle.float64


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_average_pool_inside_keeps_the_layout_around_it(ceil, dtype):
    class Pooled(Small):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2D(2, 2, ceil_mode=ceil)

    paddle.seed(0)
    plain = Pooled()
    fast = Pooled()
    fast.set_state_dict(plain.state_dict())
    accelerate(fast, (3, 13, 13))
    assert (fast.first.enters, fast.first.leaves, fast.mean.leaves) == (True, False, True)
    assert (type(fast.pool), fast.pool.enters, fast.pool.leaves) == (layers.AvgPool2D, False, False)
    for network in (plain, fast):
        network.to(dtype=dtype)
    images = pictures(side=13, dtype=dtype)
    assert_same(results(fast, images), results(plain, images))


@pytest.mark.parametrize("inside", ["first", "norm", "pool", "depthwise", "active", "mean"])
@pytest.mark.parametrize("after", [True, False])
def test_a_layer_of_another_type_inside_gets_its_maps_in_paddles_layout(inside, after):
    def change(network):
        layer = getattr(network, inside)
        if isinstance(layer, Wide):
            return
        layer.to(dtype="float64")
        setattr(network, inside, Wide(layer))

    if after:
        assert_paddles(change)
        return
    plain, fast = built(), built()
    for network in (plain, fast):
        change(network)
    accelerate(fast, (3, 12, 12))
    for mode in ("train", "eval"):
        for network in (plain, fast):
            getattr(network, mode)()
        assert_same(results(fast, pictures()), results(plain, pictures()))


class Wide(nn.Layer):
    """A layer that computes in float64 between others in float32."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.astype("float64")).astype("float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_networks_of_another_type_are_left_to_paddle(dtype):
    network = built(dtype)
    before = [type(layer) for layer in network.sublayers()]
    accelerate(network, (3, 12, 12))
    assert [type(layer) for layer in network.sublayers()] == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_set_after_acceleration_is_refused_by_paddle_as_without(dtype):
    messages = []
    for fast in (False, True):
        network = built()
        if fast:
            accelerate(network, (3, 12, 12))
        network.to(dtype=dtype)
        with pytest.raises((RuntimeError, ValueError, NotImplementedError)) as caught:
            network(pictures(dtype=dtype))
        messages.append(str(caught.value).splitlines()[-1])
    assert messages[0] == messages[1]


def test_clips_of_float64_are_paddles():
    found = []
    for fast in (False, True):
        layer = Pact().to(dtype="float64")
        if fast:
            layer.__class__ = layers.Clip
        x = paddle.to_tensor(np.linspace(-30, 30, 50), dtype="float64", stop_gradient=False)
        y = layer(x)
        y.sum().backward()
        found.append(arrays([y, x.grad, layer.alpha.grad]))
    assert_same(found[1], found[0], 0)


def test_ranges_of_float64_are_refused_by_paddle_as_without():
    for fast in (False, True):
        layer = FakeQuantMovingAverageAbsMax()
        if fast:
            layer.__class__ = layers.FakeQuantize
        with pytest.raises(RuntimeError, match="float64"):
            layer(paddle.ones([5], dtype="float64"))


@pytest.mark.parametrize(
    "names", [["images"], ["first.weight"], ["depthwise.bias"], ["images", "norm.weight", "norm.bias"]]
)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_may_be_asked_for_some_of_the_tensors_and_again(names, training):
    found = []
    for fast in (False, True):
        network, images = built(), pictures()
        if fast:
            accelerate(network, (3, 12, 12))
        network.train() if training else network.eval()
        tensors = dict(network.named_parameters()) | {"images": images}
        loss = network(images).square().sum()
        asked = [tensors[name] for name in names]
        found.append([arrays(paddle.grad(loss, asked, retain_graph=keep)) for keep in (True, False)])
        assert images.grad is None
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert_same(ours, theirs)


def test_gradients_of_a_middle_are_paddles():
    found = []
    for fast in (False, True):
        layer = nn.Conv2D(3, 4, 3)
        layer.weight.set_value(np.linspace(-1, 1, 108, dtype=np.float32).reshape(4, 3, 3, 3))
        if fast:
            layer.__class__ = layers.Conv2D
            layer.enters = layer.leaves = True
        images = pictures()
        middle = layer(images)
        found.append(arrays(paddle.grad((middle * middle).sum(), [middle, layer.weight])))
    assert_same(found[1], found[0])


def test_a_second_backward_pass_is_refused_before_the_first():
    network, images = built(), pictures()
    accelerate(network, (3, 12, 12))
    loss = network(images).sum()
    with pytest.raises(Exception, match="accelerated layers allow one backward pass") as refused:
        loss.backward(retain_graph=True)
    assert "train.accelerate=off" in str(refused.value)
    with pytest.raises(Exception, match="accelerated layers allow one backward pass"):
        paddle.autograd.backward([network(images).sum()], [None], retain_graph=True)
    with stock():
        loss = network(images).sum()
    once = arrays(paddle.grad(loss, [images], retain_graph=True))
    images.clear_grad()
    for _ in range(2):
        loss.backward(retain_graph=True)
    assert_same(arrays([images.grad]), [2 * once[0]])


def test_a_second_derivative_is_refused():
    layer, images = nn.AdaptiveAvgPool2D(1), pictures()
    layer.__class__ = layers.MeanPool
    layer.enters = layer.leaves = True
    with pytest.raises(Exception, match="accelerated layers have no second derivative"):
        paddle.grad(layer(images).sum(), [images], create_graph=True)


@pytest.mark.parametrize("full_graph", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_compiled_networks_give_what_paddle_gives(full_graph, fast):
    plain, network = built(), built()
    if fast:
        accelerate(network, (3, 12, 12))
    compiled = paddle.jit.to_static(network, full_graph=full_graph)
    for _ in range(2):
        expected = results(plain, pictures())
        assert_same(results(compiled, pictures()), expected)
    plain.eval()
    network.eval()
    np.testing.assert_allclose(compiled(pictures()).numpy(), plain(pictures()).numpy(), rtol=1e-4, atol=1e-5)


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    "values", [[-np.inf] * 16, [-np.inf, LOWEST, -np.inf, 1.0] * 4, [LOWEST] * 16, [-np.inf] * 15 + [2.0]]
)
def test_maxima_of_nothing_but_minus_infinity_are_paddles(values, padding):
    found = []
    for fast in (False, True):
        layer = nn.MaxPool2D(2, 2, padding)
        if fast:
            layer.__class__ = layers.MaxPool2D
            layer.enters = layer.leaves = True
        x = paddle.to_tensor(np.array(values, np.float32).reshape([1, 1, 4, 4]), stop_gradient=False)
        y = layer(x)
        y.backward(paddle.arange(1, y.size + 1, dtype="float32").reshape(y.shape))
        found.append([y.numpy(), x.grad.numpy()])
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
