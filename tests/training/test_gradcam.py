"""Maps of the evidence equal those of independent computations, and explaining changes nothing."""

from __future__ import annotations

import functools

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import ptq
from runner.errors import ConfigError
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import stock
from runner.training import gradcam, seeding

CLASSES = np.array([[1, 2], [3, gradcam.NONE], [0, 9]])


def built(model, side, accelerated=True):
    paddle.seed(0)
    network = models.build(model, 10)
    if accelerated:
        accelerate(network, (3, side, side))
    return network


def pictures(side, count=3):
    return paddle.to_tensor(np.random.default_rng(1).standard_normal((count, 3, side, side), dtype=np.float32))


def test_a_mean_and_a_matrix_behind_the_map_make_it_a_class_activation_map():
    # Zhou et al. (CVPR 2016): of such networks α is the weight of the class.
    network = built(cfg.Vision(architecture="resnet18"), 128)
    place = gradcam.find(network, (3, 128, 128))
    assert (place.layer, place.height, place.width) == ("layer4", 4, 4)
    images = pictures(128)
    kept = []
    hook = network.layer4.register_forward_post_hook(lambda _layer, _inputs, output: kept.append(output.numpy()))
    network.eval()
    with stock(), paddle.no_grad():
        logits = network(images).numpy()
    hook.remove()
    weights = network.fc.weight.numpy()[:, CLASSES].transpose(1, 2, 0)
    expected = np.maximum(0, np.einsum("nmk,nkhw->nmhw", weights, kept[0]) / 16)
    maps, own = gradcam.grad_cam(network, place, images, CLASSES)
    expected[CLASSES == gradcam.NONE] = 0
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * expected.max())
    np.testing.assert_allclose(own, logits, rtol=1e-3, atol=1e-4)
    assert not maps[1, 1].any()
    assert maps[0].any()


@pytest.mark.parametrize("model", [cfg.MobileNetV3(scale=0.35), cfg.EfficientNetLite()], ids=["mobilenet_v3", "lite"])
def test_a_map_equals_one_of_finite_differences(model):
    network = built(model, 128)
    place = gradcam.find(network, (3, 128, 128))
    assert (place.height, place.width) == (4, 4)
    images, one = pictures(128, 1), 4
    maps, _ = gradcam.grad_cam(network, place, images, np.array([[one]]))
    network.eval()
    with gradcam._leaf(network, place) as found, paddle.no_grad():
        network(images)
    values = found[0]
    # Moving all pixels of a channel by ε changes the logit by ε times the sum of its gradient.
    moved, steps = place.as_maps(values.numpy()), 8
    alphas = np.zeros(place.channels)
    spread = moved.std() * 1e-2

    def logit(change):
        with paddle.no_grad(), gradcam._replaced(network, place, change):
            return float(network(images)[0, one])

    axis = 0 if place.batch_last else 1
    for channel in range(0, place.channels, max(1, place.channels // steps)):
        step = np.zeros(values.shape, dtype=np.float32)
        np.moveaxis(step, axis, 0)[channel] = spread
        up, down = (logit(functools.partial(paddle.add, paddle.to_tensor(sign * step))) for sign in (1, -1))
        alphas[channel] = (up - down) / (2 * spread) / 16
    with gradcam._leaf(network, place) as found:
        logits = network(images)
        exact = place.as_maps(gradcam._gradient(logits, found[0], np.array([one]))).mean(axis=(2, 3))[0]
    chosen = alphas != 0
    assert chosen.sum() >= steps
    np.testing.assert_allclose(alphas[chosen], exact[chosen], rtol=0.05, atol=0.03 * np.abs(exact).max())
    expected = np.maximum(0, np.einsum("k,khw->hw", exact, moved[0]))
    np.testing.assert_allclose(maps[0, 0], expected, rtol=1e-4, atol=1e-5 * max(1e-6, expected.max()))


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("integers", [False, True], ids=["float", "integers"])
def test_kernels_give_the_maps_of_paddles_layers_and_nothing_changes(side, integers):
    made = []
    for accelerated in (True, False):
        network = built(cfg.MobileNetV3(scale=0.35), side, accelerated=False)
        if integers:
            ptq.quantize_and_calibrate(network, cfg.CalibratedQuantization(), [pictures(side, 8)])
        if accelerated:
            accelerate(network, (3, side, side))
        network.train()
        state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
        random_state = seeding.state()
        place = gradcam.find(network, (3, side, side))
        made.append(gradcam.grad_cam(network, place, pictures(side), CLASSES)[0])
        assert seeding.state() == random_state
        assert all(layer.training for layer in network.sublayers(include_self=True))
        assert all(parameter.grad is None for parameter in network.parameters())
        for name, value in network.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), state[name], err_msg=name)
    assert made[0].any()
    if not integers:
        # A value that rounding carries over the edge between two integers moves all that follows.
        np.testing.assert_allclose(made[0], made[1], rtol=1e-2, atol=1e-3 * made[1].max())


def test_of_two_trunks_it_is_their_sum_that_is_explained():
    network = built(cfg.Siamese(size=cfg.Size.small, scale=0.35), 128)
    place = gradcam.find(network, (3, 128, 128))
    assert (place.layer, place.is_input, place.height) == ("pool", True, 4)
    with pytest.raises(ConfigError, match="no map to explain: for images of 32×32"):
        gradcam.find(network, (3, 32, 32))


class Patches(nn.Layer):
    """A small transformer that classifies by a token before those of the image, or by their mean."""

    def __init__(self, by_token):
        super().__init__()
        self.by_token = by_token
        self.embed = nn.Conv2D(3, 16, 8, 8)
        self.token = self.create_parameter([1, 1, 16])
        self.blocks = nn.LayerList([nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0) for _ in range(3)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose([0, 2, 1])
        tokens = paddle.concat([self.token.expand([len(images), 1, 16]), tokens], axis=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.by_token else tokens[:, 1:].mean(1))


@pytest.mark.parametrize(("by_token", "layer"), [(True, "blocks.1"), (False, "norm")])
def test_tokens_are_explained_where_those_of_the_image_still_decide(by_token, layer):
    paddle.seed(0)
    network = Patches(by_token)
    place = gradcam.find(network, (3, 32, 40))
    assert place.layer.startswith(layer)
    assert (place.height, place.width, place.tokens) == (4, 5, 1)
    maps, _ = gradcam.grad_cam(network, place, paddle.randn([3, 3, 32, 40]), CLASSES)
    assert maps.shape == (3, 2, 4, 5)
    assert maps.any()


def test_a_layer_can_be_chosen_and_a_network_without_maps_is_refused():
    network = built(cfg.MobileNetV3(scale=0.35), 64)
    for name in ("conv3", "conv3.linear_conv", "conv3.linear_conv.bn"):
        assert gradcam.find(network, (3, 64, 64), name).height == 16
    with pytest.raises(ConfigError, match="no layer 'conv33'"):
        gradcam.find(network, (3, 64, 64), "conv33")
    with pytest.raises(ConfigError, match="gives no map"):
        gradcam.find(network, (3, 64, 64), "out")
    with pytest.raises(ConfigError, match="has no map to explain"):
        gradcam.find(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10)), (3, 64, 64))
