"""Names and layouts of other frameworks, on shapes alone."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.errors import CheckpointError
from runner.models import names
from runner.models.names.mapping import Names, translate


def vision(architecture: str) -> cfg.Vision:
    return cfg.Vision(architecture=architecture)


def state(network: nn.Layer) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


DENSENET, INCEPTION = vision("densenet121"), vision("inception_v3")
#: (architecture, name elsewhere, name here), of each rule one.
PAIRS = [
    (cfg.MobileNetV3(), "conv.conv.weight", "conv1.conv.weight"),
    (cfg.MobileNetV3(), "blocks.3.mid_se.conv1.bias", "conv5.mid_se.conv1.bias"),
    (cfg.MobileNetV3(), "blocks.14.linear_conv.bn._mean", "conv16.linear_conv.bn._mean"),
    (cfg.MobileNetV3(), "fc.bias", "out.bias"),
    (cfg.EfficientNetLite(), "_blocks.3._bn1.running_var", "blocks.3.depthwise.bn._variance"),
    (cfg.EfficientNetLite(), "_bn1.weight", "head.bn.weight"),
    (vision("alexnet"), "features.10.bias", "_conv5._conv.bias"),
    (DENSENET, "features.denseblock2.denselayer3.norm.2.bias", "db_conv_3.conv3_3.bn_ac_func2._batch_norm.bias"),
    (DENSENET, "features.transition3.conv.weight", "tr_conv4_blk.conv_ac_func._conv.weight"),
    (INCEPTION, "Mixed_6a.branch3x3dbl_3.bn.running_mean", "inception_block_list.3.branch3x3dbl_3.1._mean"),
    (INCEPTION, "Conv2d_3b_1x1.conv.weight", "inception_stem.conv_3b_1x1.0.weight"),
    (vision("mobilenet_v1"), "blocks.8.depthwise_conv.bn._mean", "conv5_3._depthwise_conv.1._mean"),
    (vision("mobilenet_v1"), "blocks.12.pointwise_conv.conv.weight", "conv6._pointwise_conv.0.weight"),
    (vision("mobilenet_v3_large"), "features.4.block.2.fc1.weight", "blocks.3.mid_se.fc1.weight"),
    (vision("mobilenet_v3_large"), "features.1.block.1.1.running_var", "blocks.0.linear_conv.1._variance"),
    (vision("mobilenet_v3_small"), "features.12.0.weight", "lastconv.0.weight"),
    (vision("resnet50"), "blocks.3.short.bn._mean", "layer2.0.downsample.1._mean"),
    (vision("resnet50"), "blocks.15.conv2.conv.weight", "layer4.2.conv3.weight"),
    (vision("resnet50"), "layer4.2.bn3.running_var", "layer4.2.bn3._variance"),
    (vision("shufflenet_v2_x1_0"), "stage3.0.branch1.2.weight", "3_1._conv_linear_1.0.weight"),
    (vision("shufflenet_v2_x1_0"), "stage3.2.branch2.4.running_mean", "3_3._conv_dw.1._mean"),
    (vision("vgg11"), "pre_logits.fc2.bias", "classifier.3.bias"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "theirs", "ours"), PAIRS)
def test_a_name_elsewhere_is_one_here(model, theirs, ours):
    network = models.build(model, 10)
    array = state(network)[ours]
    translated = translate({theirs: array}, network, names.of(model), by_torch=False)
    assert list(translated.arrays) == [ours]


def test_blocks_that_are_counted_by_stages_are_counted_through():
    network = models.build(cfg.EfficientNetLite(), 10)
    own = state(network)
    theirs = {}
    stages = [(stage, block) for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(count)]
    for number, (stage, block) in enumerate(stages):
        theirs[f"blocks.{stage}.{block}.conv_dw.weight"] = own[f"blocks.{number}.depthwise.conv.weight"]
    # In a file's own order 10 might come before 2.
    translated = translate(dict(reversed(theirs.items())), network, names.of(cfg.EfficientNetLite()), True)
    assert set(translated.arrays) == {f"blocks.{number}.depthwise.conv.weight" for number in range(16)}
    for name, array in translated.arrays.items():
        np.testing.assert_array_equal(array, own[name])


class Small(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4), nn.Linear(4, 4)


def test_linear_weights_of_pytorch_are_turned_also_square_ones():
    network = Small()
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    for by_torch, expected in ((True, square.T), (False, square)):
        translated = translate({"fc.weight": square}, network, (), by_torch)
        np.testing.assert_array_equal(translated.arrays["fc.weight"], expected)


def test_where_nothing_says_so_the_shapes_do():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    square, wide = np.arange(16, dtype=np.float32).reshape(4, 4), np.zeros((3, 4), np.float32)
    turned = translate({"0.weight": square, "1.weight": wide}, network, (), None).arrays
    np.testing.assert_array_equal(turned["0.weight"], square.T)
    kept = translate({"0.weight": square, "1.weight": wide.T}, network, (), None).arrays
    np.testing.assert_array_equal(kept["0.weight"], square)


def test_a_layer_that_is_stored_otherwise_than_another_is_found_by_its_own_shape():
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5), nn.Linear(5, 5))
    arrays = {"0.weight": np.ones((3, 4)), "1.weight": np.ones((3, 5)), "2.weight": np.arange(25.0).reshape(5, 5)}
    translated = translate(arrays, network, (), None)
    assert [value.shape for value in translated.arrays.values()] == [(4, 3), (3, 5), (5, 5)]
    np.testing.assert_array_equal(translated.arrays["2.weight"], arrays["2.weight"])
    assert translated.unsure == ["2.weight"]


@pytest.mark.parametrize(
    ("statistics", "is_turned"), [("bn.running_mean", True), ("bn.num_batches_tracked", True), ("bn._mean", False)]
)
def test_the_names_of_running_statistics_tell_how_a_square_layer_is_stored(statistics, is_turned):
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    translated = translate({"fc.weight": square, statistics: np.zeros(4, np.float32)}, Small(), (), None)
    np.testing.assert_array_equal(translated.arrays["fc.weight"], square.T if is_turned else square)
    assert translated.unsure == []


def test_a_square_layer_of_which_nothing_tells_is_said():
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    translated = translate({"fc.weight": square}, Small(), (), None)
    np.testing.assert_array_equal(translated.arrays["fc.weight"], square)
    assert translated.unsure == ["fc.weight"]


def test_a_convolution_of_the_whole_map_becomes_a_linear_layer():
    network = nn.Sequential(nn.Linear(2 * 3 * 3, 5))
    array = np.arange(90, dtype=np.float32).reshape(5, 2, 3, 3)
    [turned] = translate({"0.weight": array}, network, (), True).arrays.values()
    np.testing.assert_array_equal(turned, array.reshape(5, 18).T)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.module.", "model."])
def test_what_wrappers_put_before_names_goes_and_counts_go(wrapper):
    arrays = {f"{wrapper}bn.running_mean": np.zeros(4, np.float32), f"{wrapper}bn.num_batches_tracked": np.array(3)}
    arrays |= {"n_averaged": np.array(1)}
    assert list(translate(arrays, Small(), (), True).arrays) == ["bn._mean"]


def test_another_epsilon_gives_the_same_normalisation():
    network = Small()
    network.eval()
    network.bn._epsilon = 1e-3
    table = Names("other", ((r"^norm\.", "bn."),), epsilon=1e-5)
    variance = np.array([1e-5, 1e-4, 0.1, 2.0], np.float32)
    arrays = {"norm.running_var": variance, "norm.running_mean": np.zeros(4, np.float32)}
    translated = translate(arrays, network, (table,), True).arrays
    network.bn._variance.set_value(translated["bn._variance"])
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4, 1, 1)
    expected = x / np.sqrt(variance + 1e-5).reshape(1, 4, 1, 1)
    np.testing.assert_allclose(network.bn(paddle.to_tensor(x)).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "theirs", "said"),
    [
        (cfg.MobileNetV3(), "features.4.block.2.fc1.weight", "torchvision's network.*no expansion"),
        (cfg.MobileNetV3(), "lastconv.0.weight", "paddle.vision's network.*no expansion"),
        (vision("googlenet"), "inception3a.branch1.bn.weight", "normalises"),
        (vision("squeezenet1_0"), "features.3.squeeze.weight", "uses ceil_mode"),
        (vision("mobilenet_v1"), "blocks.1.0.conv_dw.weight", "ReLU6"),
        (vision("resnet18"), "blocks.0.short.conv.weight", "convolution on the shortcut"),
    ],
)
def test_another_architecture_under_the_same_name_is_refused_with_the_reason(model, theirs, said):
    network = models.build(model, 10)
    with pytest.raises(CheckpointError, match=said):
        translate({theirs: np.zeros(1, np.float32)}, network, names.of(model), True)


def test_names_of_its_own_are_left_alone():
    network = models.build(vision("googlenet"), 10)
    own = state(network)
    auxiliary = {"_conv_o1._conv.weight": np.zeros(1, np.float32), "_out1.bias": np.zeros(1, np.float32)}
    translated = translate(own | auxiliary, network, names.of(vision("googlenet")), False)
    assert translated.arrays.keys() == own.keys()
    assert sorted(translated.dropped) == sorted(auxiliary)
