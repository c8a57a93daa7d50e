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
    outputs = networks(images)
    assert list(outputs) == ["student", "student1", "teacher"]
    assert all(np.array_equal(outputs[name].logits.numpy(), networks[name](images).numpy()) for name in networks)


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
    outputs = networks(images)
    assert outputs["teacher"].logits.stop_gradient
    assert not outputs["student"].logits.stop_gradient


def test_training_step_leaves_the_frozen_network_bit_identical(networks, images):
    before = weights(networks["teacher"])
    optimizer = paddle.optimizer.SGD(0.1, parameters=networks.parameters())
    networks.train()
    outputs = networks(images)
    ((outputs["student"].logits - outputs["teacher"].logits) ** 2).mean().backward()
    optimizer.step()
    after = weights(networks["teacher"])
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_gradient_of_one_network_does_not_reach_the_other(networks, images):
    networks(images)["student"].logits.sum().backward()
    assert all(parameter.grad is None for parameter in networks["student1"].parameters())


def hooks(network):
    return sum(len(layer._forward_post_hooks) for layer in network.sublayers(include_self=True))


def plain(maps):
    return maps


def test_nothing_is_hooked_and_no_feature_given_where_nothing_is_tapped(networks, images):
    during = []
    networks["student"][4].register_forward_pre_hook(lambda layer, inputs: during.append(hooks(networks)))
    assert all(output.features == {} for output in networks(images).values())
    assert during == [0]


def test_tapped_layers_give_features_in_the_order_that_was_asked_for(networks, images):
    networks.eval()
    networks.tap("student", {"1": plain, "0": plain})
    networks.tap("teacher", {"0": plain})
    outputs = networks(images)
    assert list(outputs["student"].features) == ["1", "0"]
    assert outputs["student1"].features == {}
    first = networks["student"][0](images)
    np.testing.assert_array_equal(outputs["student"].features["0"].numpy(), first.numpy())
    np.testing.assert_array_equal(outputs["student"].features["1"].numpy(), networks["student"][1](first).numpy())
    np.testing.assert_array_equal(outputs["student"].logits.numpy(), networks["student"](images).numpy())


def test_features_have_a_gradient_but_those_of_frozen_networks(networks, images):
    networks.tap("student", {"0": plain})
    networks.tap("teacher", {"0": plain})
    outputs = networks(images)
    assert outputs["teacher"].features["0"].stop_gradient
    outputs["student"].features["0"].square().mean().backward()
    assert networks["student"][0].weight.grad.numpy().any()


def test_a_call_of_one_network_alone_is_not_tapped(networks, images):
    networks.tap("student", {"0": lambda maps: pytest.fail("an evaluation reads no features")})
    networks["student"](images)


def test_hooks_are_gone_behind_a_pass_that_failed_too(networks, images):
    networks.tap("student", {"0": plain})
    networks(images)
    assert not hooks(networks)
    with pytest.raises(ValueError, match="channels"):
        networks(paddle.randn([4, 5, 8, 8]))
    assert not hooks(networks)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_features_are_float32_whatever_a_layer_computes_in(images, dtype):
    class Cast(nn.Layer):
        def forward(self, maps):
            return maps.astype(dtype)

    network = nn.Sequential(nn.Conv2D(3, 4, 3), Cast(), nn.Flatten())
    networks = Networks({"student": network})
    networks.tap("student", {"1": plain})
    [maps] = networks(images)["student"].features.values()
    assert maps.dtype == paddle.float32
    maps.square().mean().backward()
    assert network[0].weight.grad.numpy().any()


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
    expected = networks(images)["student"].logits.numpy()
    paddle.jit.save(networks["student"], str(tmp_path / "student"), input_spec=[InputSpec([None, 3, 8, 8])])
    assert paddle.jit.load(str(tmp_path / "student"))(images).numpy() == pytest.approx(expected, abs=1e-6)
