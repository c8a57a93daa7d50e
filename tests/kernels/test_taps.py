"""What a tap reads is [N, C, H, W] and equals Paddle's, whatever layout the layers around it compute in."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import pruning, qat
from runner.errors import ConfigError
from runner.kernels import native, taps
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import Accelerated, FusedNorm, stock
from runner.models import Networks
from runner.training import seeding
from tests.samples import evidence

needs_kernels = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
SIDE = 64
MODELS = {
    "mobilenet_v3": cfg.MobileNetV3(dropout=0.0),
    "siamese": cfg.Siamese(size=cfg.Size.small, scale=0.35, dropout=0.0),
    "resnet18": cfg.Vision(architecture="resnet18"),
    "densenet121": cfg.Vision(architecture="densenet121"),
}


def built(kind):
    paddle.seed(0)
    network = models.build(MODELS[kind], 10)
    accelerate(network, (3, SIDE, SIDE))
    return network


def readers(network, *names):
    return taps.readers(network, names, (3, SIDE, SIDE), "student", "features.layers")


def all_maps(network):
    """Every layer that gives maps once a pass, containers and layers without parameters too."""
    given = {name: [] for name, _ in network.named_sublayers()}
    hooks = [
        layer.register_forward_post_hook(lambda _layer, _inputs, output, own=given[name]: own.append(output.ndim))
        for name, layer in network.named_sublayers()
    ]
    with paddle.no_grad():
        network(pictures(2))
    for hook in hooks:
        hook.remove()
    return [name for name, dimensions in given.items() if dimensions == [4]]


def tapped(network, *names):
    networks = Networks({"student": network})
    networks.tap("student", readers(network, *names))
    return networks


def pictures(count=6):
    return paddle.to_tensor(np.random.default_rng(1).standard_normal((count, 3, SIDE, SIDE), dtype=np.float32))


def distance(found, expected):
    return float((found - expected).norm()) / max(float(expected.norm()), 1e-6)


@needs_kernels
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "densenet121" else []) for kind in MODELS]
)
def test_features_of_every_layer_equal_paddles(kind):
    network = built(kind)
    network.eval()
    names = all_maps(network)
    assert len(names) > 50
    networks = tapped(network, *names)
    networks.eval()
    with paddle.no_grad():
        found = networks(pictures())["student"]
        with stock():
            expected = networks(pictures())["student"]
    for name in names:
        assert found.features[name].shape == expected.features[name].shape
        assert found.features[name].shape[0] == 6
        assert distance(found.features[name], expected.features[name]) < 1e-4, name


@needs_kernels
def test_features_are_float32_and_batch_first_of_a_network_in_another_precision():
    network = built("resnet18")
    networks = tapped(network, "layer1", "layer2.0.conv1")
    network.to(dtype="float64")
    networks.eval()
    images = pictures().astype("float64")
    with paddle.no_grad():
        output = networks(images)["student"]
        with stock():
            expected = networks(images)["student"]
    for name, maps in output.features.items():
        assert maps.dtype == paddle.float32
        assert maps.shape == expected.features[name].shape
        assert distance(maps, expected.features[name]) < 1e-5


@needs_kernels
@pytest.mark.parametrize(
    ("kind", "layers"), [("mobilenet_v3", ("conv4", "conv9.expand_conv.bn")), ("resnet18", ("layer2",))]
)
def test_gradients_through_features_equal_paddles(kind, layers):
    networks = tapped(built(kind), *layers)
    networks.eval()

    def gradients():
        output = networks(pictures())["student"]
        loss = F.cross_entropy(output.logits, paddle.arange(6))
        (loss + sum(maps.square().mean() for maps in output.features.values())).backward()
        found = {name: p.grad.clone() for name, p in networks.named_parameters() if p.grad is not None}
        networks.clear_gradients()
        return found

    ours = gradients()
    with stock():
        expected = gradients()
    assert ours.keys() == expected.keys()
    assert np.median([distance(ours[name], expected[name]) for name in ours]) < 1e-4


@needs_kernels
def test_maps_as_wide_as_there_are_channels_and_images_are_told_apart():
    class Square(nn.Layer):
        """Maps [2, 2, 2, 2] of two images."""

        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Conv2D(3, 2, 3, stride=2), nn.BatchNorm2D(2), nn.Conv2D(2, 4, 1)
            self.out = nn.Linear(4, 10)

        def forward(self, images):
            return self.out(self.second(F.relu(self.norm(self.first(images)))).mean([2, 3]))

    paddle.seed(0)
    network = Square()
    accelerate(network, (3, 5, 5))
    found = taps.readers(network, ["first", "norm", "second"], (3, 5, 5), "student", "features.layers")
    assert [found[name] is taps.batch_first for name in ("first", "norm", "second")] == [True, True, False]


@needs_kernels
def test_tapping_leaves_every_layer_as_fast_as_it_was():
    network = built("mobilenet_v3")
    before = [(type(layer), getattr(layer, "enters", 0), getattr(layer, "leaves", 0)) for layer in network.sublayers()]
    networks = tapped(network, "conv4", "conv9.bottleneck_conv.bn")
    networks(pictures())
    after = [(type(layer), getattr(layer, "enters", 0), getattr(layer, "leaves", 0)) for layer in network.sublayers()]
    assert after == before
    assert isinstance(network.conv9.bottleneck_conv.bn, FusedNorm)


@pytest.mark.parametrize("compression", ["none", "quantized", "pruned, quantized"])
@pytest.mark.parametrize("training", [False, True])
def test_finding_out_how_to_read_changes_nothing(compression, training):
    paddle.seed(0)
    network = models.build(MODELS["siamese"], 10)
    if "pruned" in compression:
        pruning.prune(network, cfg.Pruning(), (3, SIDE, SIDE), evidence())
    if "quantized" in compression:
        qat.quantize_and_calibrate(network, cfg.TrainedQuantization(), [pictures()], trained=True)
    accelerate(network, (3, SIDE, SIDE))
    network.train() if training else network.eval()

    def everything():
        state = {name: value.numpy().tolist() for name, value in network.state_dict().items()}
        return state, [layer.training for layer in network.sublayers(include_self=True)], seeding.state()

    before = everything()
    readers(network, "first.conv4", "second.conv4.linear_conv.conv")
    assert everything() == before
    assert not any(layer._forward_post_hooks for layer in network.sublayers())


def test_without_kernels_features_are_what_the_layers_give():
    paddle.seed(0)
    network = models.build(MODELS["resnet18"], 10)
    assert not any(isinstance(layer, Accelerated) for layer in network.sublayers())
    networks = tapped(network, "layer1", "layer2.0.conv1")
    maps = networks(pictures())["student"].features
    assert [value.shape for value in maps.values()] == [[6, 64, 16, 16], [6, 128, 8, 8]]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            "layer1.0.relu",
            "'layer1.0.relu' of student (ResNet) is called 2 times a pass: name a layer that is called once",
        ),
        ("fc", "gives paddle.float32 [2, 10] of two images, not maps [N, C, H, W]: name an earlier layer"),
    ],
)
def test_layers_without_one_map_a_pass_are_refused(layer, reason):
    with pytest.raises(ConfigError) as refused:
        readers(built("resnet18"), layer)
    assert reason in str(refused.value)


def test_a_layer_that_is_never_called_or_gives_no_tensor_is_refused():
    class Odd(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.unused, self.several = nn.Conv2D(3, 4, 3), nn.Conv2D(3, 4, 3), Several()

        def forward(self, images):
            return self.several(self.conv(images))[0].mean([2, 3])

    class Several(nn.Layer):
        def forward(self, maps):
            return maps, maps

    with pytest.raises(ConfigError, match="'unused' of student .Odd. is called 0 times a pass"):
        readers(Odd(), "unused")
    with pytest.raises(ConfigError, match="'several' of student .Odd. gives a tuple, not maps"):
        readers(Odd(), "several")
