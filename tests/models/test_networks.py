import copy

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from runner.config import Size
from runner.models import MobileNetV3, Networks

from .helpers import weights


def tiny() -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2D(1), nn.Flatten())


@pytest.fixture
def images():
    paddle.seed(0)
    return paddle.randn([4, 3, 8, 8])


@pytest.fixture
def networks():
    paddle.seed(0)
    return Networks({"student": tiny(), "student1": tiny()}, {"teacher": tiny()})


def test_every_network_gets_the_same_batch(networks, images):
    networks.eval()
    logits = networks(images)
    assert list(logits) == ["student", "student1", "teacher"]
    assert all(np.array_equal(logits[name].numpy(), networks[name](images).numpy()) for name in networks)


def test_names_of_parameters_start_with_the_network(networks):
    assert {name.split(".")[0] for name in networks.state_dict()} == {"student", "student1"}


def test_pair_of_mobilenets_prefixes_the_original_names():
    pair = Networks({name: MobileNetV3(Size.small, 0.35, 3, 0.2) for name in ("student", "student1")})
    assert {"student.conv1.conv.weight", "student1.conv1.conv.weight"} <= set(pair.state_dict())


def test_frozen_network_is_not_registered(networks):
    teacher = networks["teacher"]
    assert all(layer is not teacher for layer in networks.sublayers())
    assert not {id(parameter) for parameter in networks.parameters()} & {id(p) for p in teacher.parameters()}


def test_frozen_network_stays_in_eval_mode(networks):
    networks.train()
    assert not any(layer.training for layer in networks["teacher"].sublayers(include_self=True))


def test_trained_networks_follow_the_mode(networks):
    networks.train()
    assert networks["student"].training
    networks.eval()
    assert not networks["student"].training


def test_frozen_logits_carry_no_gradient(networks, images):
    logits = networks(images)
    assert logits["teacher"].stop_gradient
    assert not logits["student"].stop_gradient


def test_training_step_leaves_the_frozen_network_bit_identical(networks, images):
    before = weights(networks["teacher"])
    optimizer = paddle.optimizer.SGD(0.1, parameters=networks.parameters())
    networks.train()
    logits = networks(images)
    ((logits["student"] - logits["teacher"]) ** 2).mean().backward()
    optimizer.step()
    after = weights(networks["teacher"])
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_gradient_of_one_network_does_not_reach_the_other(networks, images):
    networks(images)["student"].sum().backward()
    assert all(parameter.grad is None for parameter in networks["student1"].parameters())


def test_mapping_lists_all_networks(networks):
    assert list(networks) == ["student", "student1", "teacher"]
    assert len(networks) == 3
    assert networks.trained == ("student", "student1")


def test_unknown_network_is_a_key_error(networks):
    assert "peer" not in networks
    with pytest.raises(KeyError):
        networks["peer"]


def test_copy_has_frozen_networks_of_its_own(networks):
    clone = copy.deepcopy(networks)
    assert clone["teacher"] is not networks["teacher"]
    assert clone["student"] is not networks["student"]


def test_one_network_can_be_saved_alone(networks, images, tmp_path):
    networks.eval()
    expected = networks(images)["student"].numpy()
    paddle.jit.save(networks["student"], str(tmp_path / "student"), input_spec=[InputSpec([None, 3, 8, 8])])
    assert paddle.jit.load(str(tmp_path / "student"))(images).numpy() == pytest.approx(expected, abs=1e-6)
