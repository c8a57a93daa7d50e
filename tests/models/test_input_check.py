import numpy as np
import paddle
import pytest
from paddle import nn

from runner.config import Size
from runner.errors import ConfigError
from runner.models import MobileNetV3, check_input, vision

from .helpers import weights


class Counter(nn.Layer):
    """Does what an evaluation should not: counts its calls in a buffer and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", paddle.zeros([1]))

    def forward(self, images):
        self.calls.set_value(self.calls + 1)
        return paddle.randn([images.shape[0], 5])


def test_fitting_network_passes():
    check_input(MobileNetV3(Size.small, 0.35, 5, 0.2), (3, 32, 32), 5)


def test_too_small_images_are_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"16x16.*data\.image_size"):
        check_input(vision.build("alexnet", 5, {}), (3, 16, 16), 5)


def test_reason_is_the_line_that_matters_of_paddles_message():
    with pytest.raises(ConfigError, match=r"The reason: .*dimension of Input.*256.*9216"):
        check_input(vision.build("alexnet", 5, {}), (3, 64, 64), 5)


def test_images_that_vanish_on_the_way_are_refused():
    with pytest.raises(ConfigError, match=r"nothing is left of the images after \w+.*"):
        check_input(vision.build("inception_v3", 5, {}), (3, 32, 32), 5)


def test_wrong_number_of_classes_is_refused():
    with pytest.raises(ConfigError, match=r"\[2, 5\].*\[2, 10\]"):
        check_input(MobileNetV3(Size.small, 0.35, 5, 0.2), (3, 32, 32), 10)


def test_output_that_is_no_tensor_is_refused():
    with pytest.raises(ConfigError, match="tuple"):
        check_input(paddle.vision.models.googlenet(num_classes=5), (3, 224, 224), 5)


def test_error_of_the_user_keeps_its_own_message():
    class Refusing(nn.Layer):
        def forward(self, images):
            raise ConfigError("install g++")

    with pytest.raises(ConfigError, match=r"^install g\+\+$"):
        check_input(Refusing(), (3, 32, 32), 5)


def test_training_flags_of_all_layers_are_kept():
    network = MobileNetV3(Size.small, 0.35, 5, 0.2)
    network.train()
    network.conv1.eval()
    check_input(network, (3, 32, 32), 5)
    assert network.training
    assert network.dropout.training
    assert not network.conv1.bn.training


def test_weights_and_statistics_are_kept():
    network = MobileNetV3(Size.small, 0.35, 5, 0.2)
    before = weights(network)
    check_input(network, (3, 32, 32), 5)
    after = weights(network)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_buffers_are_kept():
    network = Counter()
    check_input(network, (3, 8, 8), 5)
    assert float(network.calls) == 0


def test_random_state_is_kept():
    paddle.seed(1)
    expected = paddle.randn([3]).numpy()
    paddle.seed(1)
    check_input(Counter(), (3, 8, 8), 5)
    assert np.array_equal(paddle.randn([3]).numpy(), expected)
