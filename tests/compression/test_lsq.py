"""Learned Step Size Quantization: gradients, where ranges begin, how they train, what is exported and restored."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import paddle
import paddle.nn.functional as F
import pytest
from onnx import numpy_helper
from paddle import nn

from runner import config as cfg
from runner import models
from runner.checkpoints import fitting, weights
from runner.compression import lsq, ptq, qat, slim
from runner.compression.rounding import Rounding
from runner.deploy import to_onnx, twin
from runner.errors import ConfigError
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import stock
from runner.models import Networks
from runner.training import optimizers

SMALL = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)


def rounding(bits=4, magnitudes=(1.0,), sharing=16, axis=None):
    layer = Rounding(bits, len(magnitudes), axis, learnt=True)
    layer.set_range(np.array(magnitudes))
    layer.sharing.set_value(paddle.to_tensor([sharing], "int64"))
    return layer


def images(seed=0, count=8):
    paddle.seed(seed)
    return paddle.randn([count, 3, 32, 32])


def small(seed=0, **settings):
    paddle.seed(seed)
    network = Small()
    lsq.quantize_and_calibrate(network, cfg.LearntQuantization(**settings), [images(1), images(2)], trained=True)
    return network


def quantized(seed=0, trained=True, **settings):
    paddle.seed(seed)
    network = models.build(SMALL, 10)
    lsq.quantize_and_calibrate(network, cfg.LearntQuantization(**settings), [images(1), images(2)], trained)
    return network


class Small(nn.Layer):
    """One convolution and a linear layer, whose file is exact."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2D(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean([2, 3]))


def test_values_and_gradients_are_those_of_the_paper():
    layer, most, magnitude = rounding(), 7, 1.0
    step = magnitude / most
    values = np.array([-3.0, -0.48, 0.1, 0.55, 2.0])
    upstream = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    x = paddle.to_tensor(values.astype(np.float32), stop_gradient=False)
    y = layer(x)
    np.testing.assert_allclose(y.numpy(), np.clip(np.round(values / step), -most, most) * step, rtol=1e-6)
    (y * paddle.to_tensor(upstream.astype(np.float32))).sum().backward()
    inside = np.abs(values / step) <= most
    np.testing.assert_allclose(x.grad.numpy(), upstream * inside)
    by_step = np.where(inside, np.round(values / step) - values / step, np.sign(values) * most) @ upstream
    # Under SGD the step, which is range / Q, changes by the gradient times 1 / √(N·Q).
    np.testing.assert_allclose(layer.range.grad.numpy() / most, by_step / np.sqrt(16 * most), rtol=1e-3)


def test_each_channel_has_a_gradient_of_its_own_and_a_range_below_zero_acts_as_its_magnitude():
    layer = rounding(magnitudes=(1.0, 2.0), axis=0)
    layer.range.set_value(paddle.to_tensor([1.0, -2.0]))
    weight = paddle.to_tensor([[3.0, 0.2], [3.0, -0.4]], stop_gradient=False)
    y = layer(weight)
    np.testing.assert_allclose(y.numpy()[:, 0], [1.0, 2.0], rtol=1e-6)
    y[1].sum().backward()
    assert layer.range.grad[0] == 0
    # What is clipped wants a wider range, whichever sign that has.
    assert layer.range.grad[1] < 0


def test_it_rounds_without_gradients_too():
    layer = rounding()
    assert layer(paddle.to_tensor([0.5])).shape == [1]
    with paddle.no_grad():
        layer(paddle.to_tensor([0.5], stop_gradient=False))
    assert paddle.is_grad_enabled()


def test_ranges_are_in_the_optimizer_with_a_factor_of_their_own_and_without_decay():
    def moved(factor):
        network = small()
        settings = cfg.LearntQuantization(lr_factor=factor)
        sgd = cfg.Sgd(lr=0.01, weight_decay=0.5, decay_exempt=cfg.Exempt.nothing)
        optimization = optimizers.build(sgd, cfg.Constant(), {"student": network}, 10, 10, settings)
        before = {name: value.numpy() for name, value in lsq.learnt(network).items()}
        assert {f"student.{name}.range" for name in before} <= set(optimization.parameters)
        network.train()
        F.cross_entropy(network(images()), paddle.zeros([8], "int64")).backward()
        optimization.step()
        return np.concatenate([value.numpy() - before[name] for name, value in lsq.learnt(network).items()])

    np.testing.assert_allclose(moved(0.5), 5 * moved(0.1), rtol=0.05, atol=1e-5)
    assert moved(0.1).any()
    assert not moved(0.0).any()


def test_it_begins_close_to_the_float_network():
    paddle.seed(0)
    plain = models.build(SMALL, 10)
    network = quantized()
    plain.eval()
    network.eval()
    expected, found = plain(images()).numpy(), network(images()).numpy()
    assert 0 < np.square(found - expected).sum() < 0.1 * np.square(expected).sum()
    assert len(lsq.learnt(network)) == 2 * len(slim.fake_quantized(network))


def test_a_state_brings_ranges_bits_and_scales_of_gradients_into_a_fresh_network():
    settings = cfg.LearntQuantization(average_weight_bits=4.0, sensitivity_images=8)
    network = small(average_weight_bits=4.0, sensitivity_images=8)
    bits = [slim.bits(layer)[0] for layer in slim.fake_quantized(network).values()]
    assert min(bits) < 8
    arrays = {f"student.{name}": value.numpy() for name, value in network.state_dict().items()}
    again = Networks({"student": Small()})
    stored = weights.Weights("here", arrays)
    fitting.restructure(again, ("student",), stored, cfg.Lsq(quantize=settings))
    fitting.initialize(again, ("student",), stored, strict=True)
    assert [slim.bits(layer)[0] for layer in slim.fake_quantized(again["student"]).values()] == bits
    for one in (network, again["student"]):
        one.train()
        F.cross_entropy(one(images()), paddle.zeros([8], "int64")).backward()
    for name, value in lsq.learnt(network).items():
        np.testing.assert_array_equal(lsq.learnt(again["student"])[name].grad.numpy(), value.grad.numpy())


def test_faster_layers_round_alike():
    network = quantized()
    network.eval()
    with stock():
        expected = network(images()).numpy()
    accelerate(network, (3, 32, 32))
    np.testing.assert_allclose(network(images()).numpy(), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("bits", [4, 8])
def test_ranges_of_an_untrained_network_begin_where_training_needs_them(bits):
    network = quantized(trained=False, weight_bits=bits)
    before = {name: value.numpy() for name, value in lsq.learnt(network).items()}
    averages = {name: value.numpy() for name, value in network.state_dict().items() if name.endswith("_variance")}
    assert all((value == 1).all() for value in averages.values())
    optimizer = paddle.optimizer.SGD(0.003, parameters=network.parameters())
    network.train()
    F.cross_entropy(network(images(3)), paddle.arange(8)).backward()
    optimizer.step()
    for name, value in lsq.learnt(network).items():
        assert (np.abs(value.numpy() / before[name] - 1) < 0.5).all(), name


@pytest.mark.parametrize("bits", [4, 8])
def test_the_file_has_the_learnt_ranges_exactly(tmp_path, monkeypatch, bits):
    paddle.seed(0)
    network = Small()
    batch = paddle.randn([16, 3, 8, 8])
    lsq.quantize_and_calibrate(network, cfg.LearntQuantization(weight_bits=bits), [batch], trained=True)
    for value in lsq.learnt(network).values():
        value.set_value(value * 0.9)
    network.eval()
    expected = network(batch).numpy()
    monkeypatch.setattr(twin, "_fresh", lambda *_: Small())
    plain, layers = twin.build(network, SMALL, 5, 3)
    to_onnx.trace(plain, (3, 8, 8), tmp_path / "floats")
    to_onnx.convert(tmp_path / "floats", tmp_path / "floats.onnx")
    to_onnx.quantize_file(tmp_path / "floats.onnx", tmp_path / "int8.onnx", layers, batch.numpy())
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
    [found] = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    # The output of the convolution has 8 bits in the file, as engines want it.
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    constants = {one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    stored = slim.fake_quantized(network)["conv"]
    steps = [value for value in constants.values() if value.shape == (4,) and value.dtype == np.float32]
    most = 2 ** (bits - 1) - 1
    assert any(np.array_equal(value, (slim.weight_ranges(stored) / most).astype(np.float32)) for value in steps)
    integers = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 4]
    assert max(int(np.abs(value).max()) for value in integers) <= most
    first = np.float32(slim.activation_range(stored) / 127)
    assert any(value.size == 1 and value.dtype == np.float32 and value == first for value in constants.values())


class Odd(Small):
    """With a layer that an evaluation has no use for, and a scale before the last layer."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.head, self.scale = nn.Linear(4, 5), scale

    def forward(self, x):
        return self.fc(self.scale * F.relu(self.conv(x)).mean([2, 3]))


WAYS = {
    "lsq": (lsq.quantize_and_calibrate, cfg.LearntQuantization, (True,)),
    "qat": (qat.quantize_and_calibrate, cfg.TrainedQuantization, (True,)),
    "ptq": (ptq.quantize_and_calibrate, cfg.CalibratedQuantization, ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_has_no_range_is_refused_with_what_leaves_it_out(way):
    quantize, settings, further = WAYS[way]
    with pytest.raises(ConfigError, match=r"calls head, .* Add compression\.quantize\.skip=\[head\]"):
        quantize(Odd(), settings(), [images()], *further)
    with pytest.raises(ConfigError, match=r"input of layer fc is not finite .*skip=\[fc\]"):
        quantize(Odd(float("nan")), settings(skip=["head"]), [images()], *further)
    network = Odd()
    quantize(network, settings(skip=["head"]), [images()], *further)
    assert slim.fake_quantized(network).keys() == {"conv", "fc"}
