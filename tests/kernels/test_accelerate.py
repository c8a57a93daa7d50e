"""A whole network computes the same with faster layers, whatever it does between them."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.kernels import native
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import Accelerated, Conv2D, stock

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
VISION = ["resnet18", "mobilenet_v2", "vgg11", "densenet121", "googlenet", "shufflenet_v2_x0_25", "squeezenet1_1"]
MODELS = [cfg.MobileNetV3(dropout=0.0), cfg.Siamese(size=cfg.Size.small, scale=0.35, dropout=0.0)]
MODELS += [cfg.Vision(architecture=name) for name in VISION]
#: Networks that take longest; what is special in each is in the others too, or a layer has a test of its own.
LARGE = {"vgg11", "densenet121", "googlenet", "squeezenet1_1"}


def built(model, side=64):
    paddle.seed(0)
    network = models.build(model, 10)
    for layer in network.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network


def pictures(count=6, side=64):
    return paddle.to_tensor(np.random.default_rng(1).standard_normal((count, 3, side, side), dtype=np.float32))


def gradients(network, images):
    """Logits, and the gradient of every parameter."""
    logits = network(images)
    F.cross_entropy(logits, paddle.arange(len(images)) % 10).backward()
    found = {name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None}
    network.clear_gradients()
    return found | {"logits": logits.numpy()}


def difference(found, expected):
    """Parameter name → norm of the difference, relative to what is expected."""
    # A weight before a normalisation of batches has a gradient that is next to nothing.
    return {
        name: np.linalg.norm(found[name] - value) / max(np.linalg.norm(value), 1e-3) for name, value in expected.items()
    }


def compared(network, images):
    with stock():
        expected = gradients(network, images)
    found = gradients(network, images)
    assert found.keys() == expected.keys()
    return difference(found, expected)


def name_of(model):
    return getattr(model, "architecture", type(model).__name__)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, id=name_of(model), marks=[pytest.mark.slow] if name_of(model) in LARGE else [])
        for model in MODELS
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_logits_and_gradients_equal_paddles(model, training):
    network = built(model)
    names = list(network.state_dict())
    accelerate(network, (3, 64, 64))
    assert list(network.state_dict()) == names
    assert any(isinstance(layer, Accelerated) for layer in network.sublayers())
    # A value within rounding of 0 before a ReLU may pass its gradient on in one of the two only: Paddle's own gradients
    # of densenet121 are 0.01 from those in float64. Most images have no such value, each repeated here; in a batch
    # whose statistics join the images there is always one, and these make much of any difference.
    network.train() if training else network.eval()
    batches = pictures(72).split(3) if training else [image.tile([6, 1, 1, 1]) for image in pictures(5)]
    each = [compared(network, batch) for batch in batches]
    assert max(one["logits"] for one in each) < 1e-4
    for name in each[0]:
        assert np.median([one[name] for one in each]) < (0.05 if training else 3e-4), name


@pytest.mark.parametrize(("architecture", "inside"), [("resnet18", True), ("densenet121", False)])
def test_only_what_joins_channels_changes_the_layout_at_every_layer(architecture, inside):
    network = built(cfg.Vision(architecture=architecture))
    accelerate(network, (3, 64, 64))
    convolutions = [layer for layer in network.sublayers() if isinstance(layer, Conv2D)]
    changes = sum(layer.enters + layer.leaves for layer in convolutions)
    assert changes == (1 if inside else 2 * len(convolutions))


def test_a_network_that_works_on_its_images_first_is_entered_at_its_first_layer():
    class Centred(nn.Layer):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.Conv2D(8, 4, 3, stride=2)
            self.out = nn.Linear(4, 10)

        def forward(self, images):
            features = self.second(F.relu(self.norm(self.first(2 * images - 1))))
            return self.out(features.mean(axis=[2, 3]))

    network = Centred()
    accelerate(network, (3, 16, 16))
    assert (network.first.enters, network.first.leaves) == (True, False)
    assert (network.second.enters, network.second.leaves) == (False, True)
    images = pictures(side=16)
    with stock():
        expected = network(images).numpy()
    np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["ends in a normalisation", "differs in evaluation", "begins with an empty branch"])
def test_networks_that_hide_what_they_do_still_give_the_same(kind):
    class Odd(nn.Layer):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2D(3, 6, 3), nn.BatchNorm2D(6)
            self.second, self.last = nn.Conv2D(6, 6, 1), nn.BatchNorm2D(6)
            self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.0))
            self.out = nn.Linear(6, 10)

        def forward(self, images):
            features = F.relu(self.norm(self.first(images)))
            branch = self.second(features)
            if kind == "differs in evaluation" and not self.training:
                branch = branch * branch.mean(axis=1, keepdim=True)
            if kind == "begins with an empty branch":
                branch = features + self.scale * branch.mean(axis=1, keepdim=True)
            return self.out(F.adaptive_avg_pool2d(self.last(branch), 1).flatten(1))

    network = Odd()
    accelerate(network, (3, 12, 12))
    network.scale.set_value(paddle.ones([1]))
    images = pictures(5, 12)
    for mode in (network.train, network.eval):
        mode()
        with stock():
            expected = network(images).numpy()
        np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-3)


def test_once_more_is_the_same():
    network = built(cfg.MobileNetV3())
    accelerate(network, (3, 32, 32))
    before = [(type(layer), getattr(layer, "enters", 0), getattr(layer, "leaves", 0)) for layer in network.sublayers()]
    accelerate(network, (3, 32, 32))
    after = [(type(layer), getattr(layer, "enters", 0), getattr(layer, "leaves", 0)) for layer in network.sublayers()]
    assert after == before


def test_nothing_of_the_network_or_of_paddles_generator_changes():
    network = built(cfg.MobileNetV3())
    network.eval()
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    paddle.seed(3)
    expected = paddle.rand([4]).numpy()
    paddle.seed(3)
    accelerate(network, (3, 32, 32))
    np.testing.assert_array_equal(paddle.rand([4]).numpy(), expected)
    assert not network.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


@pytest.mark.slow
def test_a_hundred_steps_lose_the_same():
    curves = []
    for fast in (False, True):
        network = built(cfg.MobileNetV3(dropout=0.2))
        if fast:
            accelerate(network, (3, 32, 32))
        network.train()
        optimizer = paddle.optimizer.SGD(1e-4, parameters=network.parameters())
        generator, losses = np.random.default_rng(0), []
        paddle.seed(1)
        for _ in range(100):
            images = paddle.to_tensor(generator.standard_normal((16, 3, 32, 32), dtype=np.float32))
            loss = F.cross_entropy(network(images), paddle.to_tensor(generator.integers(0, 10, 16)))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        curves.append(losses)
    np.testing.assert_allclose(curves[1], curves[0], rtol=2e-3)


def test_traced_networks_have_paddles_operators_only(tmp_path):
    network = built(cfg.MobileNetV3())
    accelerate(network, (3, 32, 32))
    network.eval()
    images = pictures(3, 32)
    expected = network(images).numpy()
    traced = paddle.jit.to_static(network, input_spec=[paddle.static.InputSpec([None, 3, 32, 32])])
    paddle.jit.save(traced, str(tmp_path / "network"))
    loaded = paddle.jit.load(str(tmp_path / "network"))
    assert np.linalg.norm(loaded(images).numpy() - expected) < 1e-4 * np.linalg.norm(expected)
