"""What patterns choose of a network, and how deep its blocks are."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import qat
from runner.errors import ConfigError
from runner.models import parts
from tests.samples import fully_convolutional

HEAD = {"out.weight", "out.bias"}


@pytest.fixture(scope="module")
def network():
    return models.build(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 5)


def trainable(layer):
    return {name for name, one in layer.named_parameters() if not one.stop_gradient}


def test_a_layer_stands_for_all_that_is_in_it(network):
    part = parts.choose(network, ["conv1"], HEAD, "model.freeze")
    assert set(part.parameters) == {"conv1.conv.weight", "conv1.bn.weight", "conv1.bn.bias"}
    assert {"conv1", "conv1.conv", "conv1.bn"} == set(part.layers)
    assert part.layers_to_freeze == list(part.layers.values())
    assert part.has("conv1.bn._mean")
    assert not part.has("conv10.linear_conv.bn._mean")


def test_parameters_alone_leave_the_statistics_of_others_training(network):
    part = parts.choose(network, ["*.bn.weight"], HEAD, "model.freeze")
    assert part.parameters
    assert not part.layers
    both = parts.choose(network, ["*.bn.weight", "*.bn.bias"], HEAD, "model.freeze")
    assert len(both.layers_to_freeze) == len(part.parameters)


def test_backbone_and_head_are_all_there_is(network):
    backbone, head = (parts.choose(network, [word], HEAD, "model.freeze") for word in ("backbone", "head"))
    assert set(head.parameters) == HEAD
    assert set(backbone.parameters) == trainable(network) - HEAD
    held = set(map(id, backbone.layers_to_freeze))
    assert {id(layer) for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)} < held
    assert not {id(network.dropout), id(network.out)} & held


def test_dropped_connections_within_frozen_blocks_are_kept():
    network = models.build(cfg.EfficientNetLite(), 5)
    part = parts.choose(network, ["backbone"], {"fc.weight", "fc.bias"}, "model.freeze")
    held = set(map(id, part.layers_to_freeze))
    assert id(network.blocks[2].drop) in held
    assert id(network.dropout) not in held
    assert parts.depths(network)[1] == 1 + 16 + 2


def test_a_head_keeps_its_own_ranges_and_clips_when_the_backbone_is_frozen():
    network = models.build(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 5)
    qat.quantize(network, cfg.TrainedQuantization())
    part = parts.choose(network, ["backbone"], HEAD, "model.freeze")
    assert {name for name in trainable(network) if name not in part.parameters} == {
        *HEAD, "out._act_preprocess.alpha",
    }  # fmt: skip
    assert part.has("conv1.conv._fake_quant_input._scale")
    assert not part.has("out._fake_quant_input._scale")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("conv_1", "Did you mean 'conv1'"), ("*.mid_es.*", "matches no layer and no parameter"),
        ("pool", "that trains"), ("conv1.bn._mean", "that trains"),
    ],
)  # fmt: skip
def test_a_pattern_without_parameters_is_refused_with_what_there_is(network, pattern, message):
    with pytest.raises(ConfigError, match=r"model\.freeze: ") as refused:
        parts.choose(network, [pattern], HEAD, "model.freeze")
    assert message in str(refused.value)
    assert "last_second_conv" in str(refused.value)


def test_a_network_whose_classes_nothing_follows_has_no_backbone(network):
    with pytest.raises(ConfigError, match="no parameter follows the number of classes"):
        parts.choose(network, ["backbone"], set(), "model.freeze")


@settings(max_examples=30)
@given(st.data())
def test_what_is_chosen_is_what_the_names_say(network, data):
    names = [name for name, _ in network.named_sublayers() if trainable(dict(network.named_sublayers())[name])]
    names += sorted(trainable(network))
    picked = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    patterns = [data.draw(st.sampled_from([name, f"{name[:-1]}?", f"*{name[2:]}", f"{name}*"])) for name in picked]
    part = parts.choose(network, patterns, HEAD, "model.freeze")

    def is_named(name):
        steps = name.split(".")
        above = [".".join(steps[:count]) for count in range(1, len(steps) + 1)]
        return any(fnmatchcase(one, pattern) for one in above for pattern in patterns)

    assert set(part.parameters) == {name for name in trainable(network) if is_named(name)}
    for name, layer in network.named_sublayers():
        inside = {f"{name}.{rest}" for rest in trainable(layer)}
        if name in part.layers:
            assert inside <= set(part.parameters)
        elif inside:
            assert not inside <= set(part.parameters)


def blocks(network):
    numbers, count = parts.depths(network)
    assert set(numbers.values()) == set(range(count))
    return numbers, count


def test_blocks_of_a_mobilenet_are_its_layers_in_order(network):
    numbers, count = blocks(network)
    assert count == 1 + 11 + 3
    assert numbers["conv1.bn.weight"] == 0
    assert numbers["conv12.linear_conv.conv.weight"] == 11
    assert [numbers[name] for name in ("last_second_conv.conv.weight", "last_conv.weight", "out.bias")] == [12, 13, 14]


def test_sequences_are_opened_and_normalisation_belongs_to_the_block_before():
    numbers, count = blocks(models.build(cfg.Vision(architecture="resnet18"), 5))
    assert count == 1 + 8 + 1
    assert [numbers[name] for name in ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight")] == [0, 0, 1]
    assert [numbers[name] for name in ("layer4.1.bn2.bias", "fc.weight")] == [8, 9]
    _, count = blocks(fully_convolutional(5))
    assert count == 3


def test_the_trunks_of_a_siamese_network_are_as_deep_as_each_other():
    numbers, count = blocks(models.build(cfg.Siamese(size=cfg.Size.small, scale=0.35), 5))
    assert count == 15
    assert numbers["first.conv7.linear_conv.conv.weight"] == numbers["second.conv7.linear_conv.conv.weight"] == 6


def test_a_layer_around_a_whole_network_is_opened(network):
    class Wrapped(nn.Layer):
        def __init__(self):
            super().__init__()
            self.scale = self.create_parameter([1])
            self.backbone, self.again = network, nn.Linear(5, 5)

    numbers, count = blocks(Wrapped())
    assert count == 16
    assert numbers["scale"] == numbers["backbone.conv1.conv.weight"] == 0


def test_a_layer_that_is_there_twice_is_where_it_is_first():
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.again = nn.Sequential(self.first, nn.ReLU())
            self.out = nn.Linear(4, 2)

    numbers, count = blocks(Twice())
    assert numbers == {"first.weight": 0, "first.bias": 0, "out.weight": 1, "out.bias": 1}
    assert count == 2
