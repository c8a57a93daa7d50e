"""Quantization-aware training: what is simulated, what moves, what stays as it is."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from runner import compression, models
from runner import config as cfg
from runner.checkpoints import fitting, weights
from runner.compression import qat, slim
from runner.data import Batch
from runner.errors import ConfigError
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import stock
from runner.models import Networks
from runner.training import optimizers
from runner.training.evaluation import evaluate
from runner.training.precision import Precision

SMALL = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)


def built(model=SMALL, seed=0):
    paddle.seed(seed)
    return models.build(model, 10)


def some_images():
    return (batch.images for batch in batches())


def batches(count=2, size=8, seed=0):
    paddle.seed(seed)
    for _ in range(count):
        yield Batch(paddle.randn([size, 3, 32, 32]), paddle.randint(0, 10, [size]), np.arange(size), size)


def quantized(seed=0, **settings):
    network = built(seed=seed)
    qat.quantize_and_calibrate(network, cfg.TrainedQuantization(**settings), some_images(), trained=True)
    return network


def step(network, optimization, batch):
    loss = F.cross_entropy(network(batch.images), batch.labels)
    loss.backward()
    optimization.step()
    optimization.optimizer.clear_grad(set_to_zero=False)
    return float(loss)


def optimized(network, pact=None, optimizer=None):
    config = optimizer or cfg.AdamW(lr=0.01)
    return optimizers.build(
        config, cfg.Constant(), {"student": network}, 10, 10, cfg.TrainedQuantization(pact=pact or cfg.Pact())
    )


def test_weights_keep_their_names_and_only_quantization_is_new():
    before = set(built().state_dict())
    after = set(quantized().state_dict())
    assert before <= after
    assert compression.is_quantized(sorted(after - before))
    assert all(compression.is_quantized([name]) for name in after - before)


def test_the_output_is_that_of_integers():
    network = quantized(pact=cfg.Pact(enabled=False))
    network.eval()
    layer = slim.fake_quantized(network)["conv1.conv"]
    images = paddle.randn([2, 3, 32, 32])
    scale = slim.activation_range(layer)
    image_integers = np.clip(np.round(images.numpy() / scale * 127), -127, 127)
    ranges = slim.weight_ranges(layer).reshape(-1, 1, 1, 1)
    weight_integers = np.round(layer.weight.numpy() / ranges * 127)
    expected = F.conv2d(
        paddle.to_tensor((image_integers * scale / 127).astype("float32")),
        paddle.to_tensor((weight_integers * ranges / 127).astype("float32")),
        stride=2,
        padding=1,
    )
    np.testing.assert_allclose(layer(images).numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_fewer_bits_make_fewer_values():
    network = quantized(weight_bits=3)
    layer = slim.fake_quantized(network)["out"]
    values = np.unique(np.round(layer._fake_quant_weight(layer.weight).numpy()[:, 0], 6))
    assert 2 < len(values) <= 7


def test_one_range_for_all_weights_of_a_layer_can_be_asked_for():
    layer = slim.fake_quantized(quantized(weight_scheme=cfg.WeightScheme.abs_max))["out"]
    assert slim.weight_ranges(layer).shape == (1,)
    np.testing.assert_allclose(slim.weight_ranges(layer)[0], abs(layer.weight.numpy()).max())


def test_an_evaluation_right_after_quantization_is_close_to_the_float_network():
    images = paddle.randn([16, 3, 32, 32])
    plain, network = built(), quantized()
    plain.eval()
    network.eval()
    expected, found = plain(images).numpy(), network(images).numpy()
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_alpha_is_in_the_optimizer_and_moves():
    network = quantized()
    optimization = optimized(network)
    names = [f"student.{layer}._act_preprocess.alpha" for layer in qat.alphas(network)]
    assert names
    assert set(names) <= set(optimization.parameters)
    before = {name: float(alpha) for name, alpha in qat.alphas(network).items()}
    network.train()
    for batch in batches(3):
        step(network, optimization, batch)
    after = {name: float(alpha) for name, alpha in qat.alphas(network).items()}
    assert all(after[name] != before[name] for name in before)


def test_alphas_learning_rate_factor_is_its_own():
    def moved(factor):
        network = quantized()
        optimization = optimized(
            network, cfg.Pact(lr_factor=factor, weight_decay=0.1), cfg.Sgd(lr=0.1, weight_decay=0.0)
        )
        before = np.array([float(alpha) for alpha in qat.alphas(network).values()])
        network.train()
        step(network, optimization, next(batches(1)))
        return np.array([float(alpha) for alpha in qat.alphas(network).values()]) - before

    np.testing.assert_allclose(moved(4.0), 4 * moved(1.0), rtol=1e-2, atol=1e-5)
    assert not moved(0.0).any()


def test_alpha_begins_with_what_the_config_says():
    values = {float(alpha) for alpha in qat.alphas(quantized(pact=cfg.Pact(initial_alpha=20.0))).values()}
    assert values == {20.0}


def test_alpha_begins_far_out_before_random_weights():
    network = built()
    qat.quantize_and_calibrate(network, cfg.TrainedQuantization(), some_images(), trained=False)
    assert {float(alpha) for alpha in qat.alphas(network).values()} == {20.0}


def test_an_alpha_that_a_step_carried_across_zero_still_clips():
    pact = qat.Pact()
    pact.alpha.set_value(paddle.full([1], -0.5))
    np.testing.assert_allclose(pact(paddle.to_tensor([-2.0, 0.25, 2.0])).numpy(), [-0.5, 0.25, 0.5])


def test_pact_clips_both_signs_and_alpha_gets_the_clipped_gradients():
    pact = qat.Pact()
    pact.alpha.set_value(paddle.full([1], 1.0))
    activation = paddle.to_tensor([-3.0, -0.5, 0.5, 2.0], stop_gradient=False)
    clipped = pact(activation)
    np.testing.assert_allclose(clipped.numpy(), [-1.0, -0.5, 0.5, 1.0])
    (clipped * paddle.to_tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    np.testing.assert_allclose(activation.grad.numpy(), [0.0, 10.0, 100.0, 0.0])
    np.testing.assert_allclose(pact.alpha.grad.numpy(), [999.0])


def test_ranges_follow_training_and_are_frozen_in_an_evaluation():
    network = quantized(pact=cfg.Pact(enabled=False))
    layer = slim.fake_quantized(network)["conv1.conv"]
    network.train()
    before = slim.activation_range(layer)
    network(3 * paddle.randn([8, 3, 32, 32]))
    trained = slim.activation_range(layer)
    assert trained > before
    networks = Networks({"student": network})
    state = {name: value.numpy() for name, value in networks.state_dict().items()}
    evaluate(networks, batches(), Precision(), 5)
    for name, value in networks.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name], err_msg=name)


def test_the_moving_rate_decides_how_fast_ranges_follow():
    def after_one_batch(rate):
        network = quantized(moving_rate=rate, pact=cfg.Pact(enabled=False))
        network.train()
        network(10 * paddle.ones([8, 3, 32, 32]))
        return slim.activation_range(slim.fake_quantized(network)["conv1.conv"])

    assert after_one_batch(0.1) > after_one_batch(0.9)


def test_skipped_layers_and_kinds_stay_float():
    layers = slim.fake_quantized(quantized(skip=["conv1.*", "*.mid_se.*"]))
    assert layers
    assert not any(name.startswith("conv1.") or "mid_se" in name for name in layers)
    assert list(slim.fake_quantized(quantized(layers=[cfg.LayerType.Linear]))) == ["out"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"skip": ["*"]}, "finds no layer of MobileNetV3")],
)
def test_settings_that_quantize_nothing_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        quantized(**settings)


def test_a_network_without_a_layer_to_quantize_is_refused():
    with pytest.raises(ConfigError, match="finds no layer of Sequential"):
        qat.quantize(nn.Sequential(nn.Flatten()), cfg.TrainedQuantization())


def test_quantizing_twice_is_a_defect():
    network = quantized()
    with pytest.raises(AssertionError, match="once more"):
        qat.quantize(network, cfg.TrainedQuantization())


def test_a_state_gives_a_fresh_network_the_same_structure_and_output():
    network = quantized(skip=["out"])
    network.eval()
    arrays = {f"student.{name}": value.numpy() for name, value in network.state_dict().items()}
    again = Networks({"student": built(seed=1)})
    given = weights.Weights("here", arrays)
    fitting.restructure(again, ("student",), given, cfg.Qat(quantize=cfg.TrainedQuantization(skip=["out"])))
    fitting.initialize(again, ("student",), given, strict=True)
    again.eval()
    images = paddle.randn([2, 3, 32, 32])
    np.testing.assert_array_equal(again["student"](images).numpy(), network(images).numpy())


def test_the_faster_layers_equal_paddles_with_quantization_too():
    network = quantized()
    accelerate(network, (3, 32, 32))
    images = paddle.randn([8, 3, 32, 32])
    network.eval()
    with stock():
        expected = network(images).numpy()
    # A value between two integers may round to the other one.
    np.testing.assert_allclose(network(images).numpy(), expected, atol=0.02 * np.abs(expected).max())


def test_a_paddleslim_that_does_not_fit_is_named(monkeypatch):
    monkeypatch.delattr(paddle.quantization, "ImperativeQuantAware")
    with pytest.raises(ConfigError, match=r"ImperativeQuantAware is missing. Versions that work: paddleslim 2\.6\.0"):
        qat.quantize(built(), cfg.TrainedQuantization())
