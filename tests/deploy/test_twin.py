"""The plain twin that is exported in place of a trained network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import paddle
import pytest

from runner import config as cfg
from runner import models
from runner.compression import pruning, ptq, qat, slim
from runner.data import Batch
from runner.deploy import convertible, to_onnx, twin
from runner.deploy.graph.quantized_weight import QuantizedWeight
from runner.models.ops import custom_relu
from runner.training import seeding
from tests.samples import evidence

SMALL = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)


def batch():
    return Batch(paddle.randn([8, 3, 32, 32]), paddle.zeros([8], "int64"), np.arange(8), 8)


def trained(model=SMALL):
    """A network whose statistics have moved, in training mode."""
    paddle.seed(0)
    network = models.build(model, 10)
    network.train()
    with paddle.no_grad():
        network(batch().images)
    return network


def logits(network):
    paddle.seed(1)
    network.eval()
    with paddle.no_grad():
        return network(batch().images).numpy()


def test_the_twin_of_a_float_network_has_the_same_logits_bit_for_bit():
    network = trained()
    plain, quantized = twin.build(network, SMALL, 10, 3)
    assert quantized == []
    np.testing.assert_array_equal(logits(plain), logits(network))


def test_so_has_that_of_a_pruned_one():
    network = trained()
    pruning.prune(network, cfg.Pruning(ratio=0.3), (3, 32, 32), evidence())
    plain, quantized = twin.build(network, SMALL, 10, 3)
    assert quantized == []
    assert slim.parameters(plain) == slim.parameters(network) < slim.parameters(trained())
    np.testing.assert_array_equal(logits(plain), logits(network))


def test_building_a_twin_changes_neither_the_network_nor_what_is_random():
    network = trained()
    before = {name: value.numpy() for name, value in network.state_dict().items()}, seeding.state()
    twin.build(network, SMALL, 10, 3)
    assert seeding.state() == before[1]
    assert network.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[0][name])


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_of_a_quantized_networks_twin_are_on_their_integer_grid(bits):
    network = trained()
    qat.quantize_and_calibrate(network, cfg.TrainedQuantization(weight_bits=bits), [batch().images], trained=True)
    plain, quantized = twin.build(network, SMALL, 10, 3)
    assert not slim.fake_quantized(plain)
    layers = slim.fake_quantized(network)
    names = {parameter.name: name for name, parameter in plain.named_parameters()}
    assert [names[layer.name] for layer in quantized] == [f"{name}.weight" for name in layers]
    for described, name in zip(quantized, layers, strict=True):
        own, weight = layers[name].weight.numpy(), plain.state_dict()[f"{name}.weight"].numpy()
        levels = 2 ** (bits - 1) - 1
        step = described.weight_scale.reshape(-1, *[1] * 3 if weight.ndim == 4 else []) / levels
        assert np.abs(weight / step - np.round(weight / step)).max() < 1e-3
        assert np.abs(weight / step).max() < levels + 1e-3
        assert np.abs(own / step - np.round(own / step)).max() > 0.2


def test_the_twin_of_a_network_with_the_custom_relu_has_paddles_own():
    model = replace(SMALL, custom_relu=True)
    # Not called: the operator would be compiled.
    network = models.build(model, 10)
    plain, _ = twin.build(network, model, 10, 3)
    assert has_custom_relu(network)
    assert not has_custom_relu(plain)


def has_custom_relu(network):
    return any(value is custom_relu for layer in network.sublayers() for value in vars(layer).values())


def assert_clips_explain_the_difference(network):
    """A float twin with clips is at least five times as near to a quantized network as one without them."""
    images = batch().images
    expected = network(images).numpy()
    plain, quantized = twin.build(network, SMALL, 10, 3)
    unclipped = np.abs(plain(images).numpy() - expected).max()
    clipped = np.abs(twin.with_clips(plain, quantized)(images).numpy() - expected).max()
    assert clipped < 0.2 * unclipped


def test_the_float_twin_of_a_network_with_pact_clips_as_it_does():
    network = models.build(SMALL, 10)
    qat.quantize_and_calibrate(network, cfg.TrainedQuantization(), [batch().images], trained=True)
    for alpha in qat.alphas(network).values():
        alpha.set_value(0.2 * alpha)
    network.eval()
    assert_clips_explain_the_difference(network)


@pytest.mark.parametrize(
    "settings",
    [cfg.TrainedQuantization(), cfg.TrainedQuantization(pact=cfg.Pact(enabled=False)), cfg.LearntQuantization()],
    ids=["PACT", "QAT", "LSQ"],
)
def test_the_float_twin_clips_by_the_ranges_where_they_are_below_alpha(settings):
    network = models.build(SMALL, 10)
    qat.quantize_and_calibrate(network, settings, [batch().images], trained=True)
    for layer in slim.fake_quantized(network).values():
        slim.set_range(layer, 0.2 * slim.activation_range(layer))
    network.eval()
    assert_clips_explain_the_difference(network)


def test_the_float_twin_of_a_calibrated_network_clips_by_its_ranges():
    network = trained()
    network.eval()
    settings = cfg.CalibratedQuantization(algorithm=cfg.Algorithm.abs_max)
    ptq.quantize_and_calibrate(network, settings, [batch().images])
    for layer in slim.fake_quantized(network).values():
        slim.set_range(layer, 0.2 * slim.activation_range(layer))
    expected = logits(network)
    plain, quantized = twin.build(network, SMALL, 10, 3)
    unclipped = np.abs(logits(plain) - expected).max()
    assert np.abs(logits(twin.with_clips(plain, quantized)) - expected).max() < 0.2 * unclipped


def test_a_network_that_lost_channels_in_an_earlier_run_is_known_as_pruned():
    network = models.build(SMALL, 10)
    assert not twin.is_pruned(twin.build(network, SMALL, 10, 3)[0], SMALL, 10, 3)
    pruning.prune(network, cfg.Pruning(), (3, 32, 32), evidence())
    assert twin.is_pruned(twin.build(network, SMALL, 10, 3)[0], SMALL, 10, 3)


def test_layers_whose_names_have_dots_are_clipped_where_they_are():
    network = paddle.nn.Layer()
    network.add_sublayer("blocks.0", paddle.nn.Sequential(paddle.nn.Linear(4, 4)))
    [linear] = network.sublayers()[1:]
    ranges = QuantizedWeight(linear.weight.name, np.ones(4, np.float32), 8, 8, 1.0, None)
    clipped = twin.with_clips(network, [ranges])
    [(name, layer)] = [one for one in clipped.named_sublayers() if isinstance(one[1], twin.Clipped)]
    assert (name, layer.layer) == ("blocks.0.0", linear)


@pytest.mark.parametrize("wanted", [7, (3, 7), (None, 2), 5, 1])
@pytest.mark.parametrize("size", [(1, 1), (5, 10), (6, 4)])
def test_pools_to_sizes_that_do_not_divide_those_of_maps(wanted, size):
    pool, x = paddle.nn.AdaptiveAvgPool2D(wanted), paddle.randn([2, 3, *size])
    expected = pool(x)
    pool.__class__ = convertible.AdaptivePool
    np.testing.assert_allclose(pool(x).numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.slow
def test_a_network_with_such_a_pool_is_exported(tmp_path):
    model = cfg.Vision(architecture="vgg11")
    network = models.build(model, 10)
    network.eval()
    plain, _ = twin.build(network, model, 10, 3)
    spec = [paddle.static.InputSpec([None, 3, 32, 32], name="images")]
    paddle.jit.save(plain, str(tmp_path / "net"), input_spec=spec)
    to_onnx.convert(tmp_path / "net", tmp_path / "net.onnx", folded=True)
    images = paddle.randn([2, 3, 32, 32])
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(found, network(images).numpy(), atol=1e-4)
