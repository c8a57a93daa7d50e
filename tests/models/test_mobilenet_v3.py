import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import Size
from runner.models import MobileNetV3
from runner.models.mobilenet_v3 import make_divisible

from .helpers import predict, save_in_old_ir, trainable_count, untrained, weights

SCALES = [0.35, 0.5, 0.75, 1.0, 1.25]
BLOCKS_WITH_ATTENTION = {Size.large: {5, 6, 7, 12, 13, 14, 15, 16}, Size.small: {2, 5, 6, 7, 8, 9, 10, 11, 12}}


def expected_names(size: Size) -> set[str]:
    blocks = range(2, 17 if size is Size.large else 13)
    parts = ("expand_conv", "bottleneck_conv", "linear_conv")
    units = ["conv1", "last_second_conv", *(f"conv{block}.{part}" for block in blocks for part in parts)]
    in_unit = ("conv.weight", "bn.weight", "bn.bias", "bn._mean", "bn._variance")
    in_attention = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
    return (
        {f"{unit}.{name}" for unit in units for name in in_unit}
        | {f"conv{block}.mid_se.{name}" for block in BLOCKS_WITH_ATTENTION[size] for name in in_attention}
        | {"last_conv.weight", "out.weight", "out.bias"}
    )


@pytest.fixture(scope="module")
def network():
    paddle.seed(0)
    return MobileNetV3(Size.small, 0.35, 5, 0.2)


@pytest.mark.parametrize("size", Size)
def test_parameters_have_the_names_of_paddle_ocr(size):
    assert set(MobileNetV3(size, 0.35, 10, 0.2).state_dict()) == expected_names(size)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", Size)
def test_every_scale_gives_one_logit_per_class(size, scale):
    network = MobileNetV3(size, scale, 7, 0.2)
    network.eval()
    assert network(paddle.randn([2, 3, 32, 32])).shape == [2, 7]


@pytest.mark.parametrize(
    ("size", "widths"), [(Size.large, [336, 480, 720, 960, 1200]), (Size.small, [200, 288, 432, 576, 720])]
)
def test_trunk_is_as_wide_as_the_scale_says(size, widths):
    networks = [MobileNetV3(size, scale, 2, 0.2) for scale in SCALES]
    assert [network.features(paddle.zeros([1, 3, 32, 32])).shape[1] for network in networks] == widths


def test_blocks_of_the_half_wide_large_network_have_rounded_widths():
    network = MobileNetV3(Size.large, 0.5, 2, 0.2)
    widths = [getattr(network, f"conv{number}").linear_conv.conv.weight.shape[0] for number in range(2, 17)]
    assert widths == [8, 16, 16, 24, 24, 24, 40, 40, 40, 40, 56, 56, 80, 80, 80]


# torchvision's networks have 5,483,032 and 2,542,856. Theirs round the squeeze to multiples of 8, have no expansion in
# the first block and a bias before the classifier, and a small head of 1024; put these back and the counts agree.
@pytest.mark.parametrize(("size", "count"), [(Size.large, 5_480_206), (Size.small, 2_939_958)])
def test_full_width_with_1000_classes_has_the_known_number_of_parameters(size, count):
    assert trainable_count(MobileNetV3(size, 1.0, 1000, 0.2)) == count


@given(st.floats(0.1, 5000))
def test_widths_are_multiples_of_8_and_keep_90_percent(width):
    result = make_divisible(width)
    assert result % 8 == 0
    assert result >= max(8, 0.9 * width)
    assert result <= max(8, width + 8)


def test_feature_map_is_a_32nd_of_the_image(network):
    assert network.features(paddle.zeros([1, 3, 64, 96])).shape[2:] == [2, 3]


@pytest.mark.parametrize("size", Size)
def test_every_parameter_is_trained(size):
    # A squeeze of two channels may well start with both of them cut off by ReLU.
    assert untrained(MobileNetV3(size, 0.35, 4, 0.2, relu=F.leaky_relu)) == []


def test_weights_depend_on_the_seed_alone():
    drawn = []
    for _ in range(2):
        paddle.seed(3)
        drawn.append(weights(MobileNetV3(Size.small, 0.35, 4, 0.2)))
        paddle.randn([5])
    assert all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_depthwise_kernels_start_at_the_scale_of_their_own_fan_in():
    paddle.seed(0)
    kernels = MobileNetV3(Size.large, 1.0, 2, 0.2).conv16.bottleneck_conv.conv.weight.numpy()
    assert kernels.std() == pytest.approx((2 / 25) ** 0.5, rel=0.05)


def test_dropout_scales_only_when_evaluating(network):
    ones = paddle.ones([1, 1000])
    network.train()
    trained = network.dropout(ones).numpy()
    network.eval()
    assert set(np.unique(trained)) == {0.0, 1.0}
    assert network.dropout(ones).numpy() == pytest.approx(0.8)


def test_batch_norm_keeps_nine_tenths_of_its_running_mean():
    norm = MobileNetV3(Size.small, 0.35, 4, 0.2).conv1.bn
    norm.train()
    norm(paddle.full([2, norm.weight.shape[0], 2, 2], 10.0))
    assert norm._mean.numpy() == pytest.approx(1.0)


def test_gate_of_squeeze_excitation_is_a_half_at_zero():
    attention = MobileNetV3(Size.small, 0.35, 4, 0.2).conv2.mid_se
    zeros = paddle.zeros_like(attention.conv2.weight)
    attention.conv2.weight.set_value(zeros)
    features = paddle.randn([2, zeros.shape[0], 3, 3])
    assert attention(features).numpy() == pytest.approx(features.numpy() / 2)


def test_given_relu_replaces_every_relu():
    calls = []

    def counting_relu(features):
        calls.append(features)
        return F.relu(features)

    MobileNetV3(Size.large, 0.35, 2, 0.2, relu=counting_relu)(paddle.zeros([2, 3, 32, 32]))
    assert len(calls) == 6 * 2 + 8


def test_saved_in_the_old_ir_it_gives_the_same_logits(network, tmp_path):
    network.eval()
    images = paddle.randn([2, 3, 32, 32])
    expected = network(images).numpy()
    save_in_old_ir(network, tmp_path / "model")
    assert predict(tmp_path / "model", images) == pytest.approx(expected, abs=1e-5)
