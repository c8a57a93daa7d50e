"""Post-training quantization and the calibration it rests on."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import ptq, ranges, slim
from runner.training import seeding


class Recorder(nn.Layer):
    """Two linear layers; the second one sees large negative values too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 4)
        self.second = nn.Linear(4, 3)

    def forward(self, images):
        return self.second(10 * self.first(images.flatten(1)))


def batch(values):
    return paddle.to_tensor(np.asarray(values, dtype=np.float32).reshape(-1, 3, 2, 2))


def test_abs_max_is_the_largest_magnitude_of_all_batches():
    paddle.seed(0)
    some = [batch(np.full(12, 0.5)), batch(np.full(12, -3.0)), batch(np.full(12, 1.0))]
    found = ranges.measure(Recorder(), ["first", "second"], some, 8)
    assert found["first"] == pytest.approx(3.0)


def test_a_percentile_leaves_the_outliers_out():
    network = Recorder()
    # The least divergence needs more values than that, or it keeps the largest one.
    for algorithm, rows in ((cfg.Algorithm.kl, 50_000), (cfg.Algorithm.hist, 1000)):
        values = np.random.default_rng(0).uniform(-1, 1, (rows, 12))
        values[0, 0] = 100.0
        bounded = ranges.measure(network, ["first"], [batch(values)], 8, algorithm, 0.999)
        assert bounded["first"] < 50
    assert ranges.measure(network, ["first"], [batch(values)], 8)["first"] == pytest.approx(100.0)


def test_calibration_changes_nothing_of_the_network():
    network = Recorder()
    network.train()
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    generators = seeding.state()
    ranges.measure(network, ["first"], [batch(np.ones(12))], 8)
    assert network.training
    assert not network.first._forward_pre_hooks
    assert seeding.state() == generators
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_an_input_that_is_always_zero_has_a_range_all_the_same():
    network = Recorder()
    ptq.quantize_and_calibrate(network, cfg.CalibratedQuantization(), [batch(np.zeros((4, 12)))])
    network.eval()
    assert np.isfinite(network(paddle.zeros([1, 3, 2, 2])).numpy()).all()


@pytest.mark.parametrize("algorithm", cfg.Algorithm)
def test_the_quantized_network_is_close_to_the_float_one(algorithm):
    paddle.seed(1)
    network = Recorder()
    values = np.random.default_rng(0).normal(size=(256, 12))
    network.eval()
    expected = network(batch(values)).numpy()
    ptq.quantize_and_calibrate(network, cfg.CalibratedQuantization(algorithm=algorithm), [batch(values)])
    network.eval()
    found = network(batch(values)).numpy()
    assert set(slim.fake_quantized(network)) == {"first", "second"}
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_fewer_bits_are_further_away():
    values = np.random.default_rng(0).normal(size=(256, 12))

    def distance(bits):
        paddle.seed(1)
        network = Recorder()
        network.eval()
        expected = network(batch(values)).numpy()
        settings = cfg.CalibratedQuantization(weight_bits=bits, activation_bits=bits)
        ptq.quantize_and_calibrate(network, settings, [batch(values)])
        network.eval()
        return np.abs(network(batch(values)).numpy() - expected).mean()

    assert distance(3) > 3 * distance(8)


def test_a_skipped_layer_has_no_range():
    network = Recorder()
    ptq.quantize_and_calibrate(network, cfg.CalibratedQuantization(skip=["first"]), [batch(np.ones(12))])
    assert list(slim.fake_quantized(network)) == ["second"]
