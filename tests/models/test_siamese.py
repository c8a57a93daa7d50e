import paddle
import paddle.nn.functional as F
import pytest

from runner.config import Size
from runner.models import MobileNetV3, Siamese

from .helpers import untrained


@pytest.fixture
def network():
    paddle.seed(0)
    return Siamese(Size.small, 0.35, 6, 0.2)


def test_logits_have_one_column_per_class(network):
    assert network(paddle.randn([2, 3, 32, 32])).shape == [2, 6]


def test_every_parameter_is_trained():
    assert untrained(Siamese(Size.small, 0.35, 4, 0.2, relu=F.leaky_relu)) == []


def test_parameters_are_those_of_two_trunks_and_one_head(network):
    names = set(MobileNetV3(Size.small, 0.35, 6, 0.2).state_dict())
    head = {"last_conv.weight", "out.weight", "out.bias"}
    trunk = names - head
    assert set(network.state_dict()) == {f"{side}.{name}" for side in ("first", "second") for name in trunk} | head


def test_trunks_start_from_different_weights(network):
    assert not bool((network.first.conv1.conv.weight == network.second.conv1.conv.weight).all())


def test_order_of_the_trunks_does_not_matter(network):
    network.eval()
    images = paddle.randn([2, 3, 32, 32])
    before = network(images).numpy()
    network.first, network.second = network.second, network.first
    assert network(images).numpy() == pytest.approx(before)
