"""Whose gradient goes where."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn

from runner.models import Networks
from runner.training import modes


def pair(config_of, *overrides):
    config = config_of(*overrides)
    paddle.seed(1)
    networks = Networks({"student": nn.Linear(6, 4), "student1": nn.Linear(6, 4)})
    images, labels = paddle.randn([5, 6]), paddle.to_tensor([0, 1, 2, 3, 0])
    return networks, modes.build(config).losses(networks(images), labels)


def gradients(network):
    return [None if p.grad is None else p.grad.numpy() for p in network.parameters()]


@pytest.mark.parametrize("mimic", ["dml", "kl", "kd", "js_original"])
def test_in_multiopt_the_loss_of_one_network_has_no_gradient_for_the_other(config_of, mimic):
    for own, other, number in (("student", "student1", 0), ("student1", "student", 1)):
        networks, losses = pair(config_of, "mode=cls_distill_multiopt", f"mimic={mimic}")
        sum(losses[number].values()).backward()
        assert all(gradient is None or not gradient.any() for gradient in gradients(networks[other]))
        assert all(gradient is not None and gradient.any() for gradient in gradients(networks[own]))


def test_each_optimizer_of_multiopt_owns_one_network(config_of):
    assert modes.build(config_of("mode=cls_distill_multiopt")).owners == [["student"], ["student1"]]


def test_one_optimizer_of_cls_distill_owns_both_networks(config_of):
    assert modes.build(config_of("mode=cls_distill")).owners == [["student", "student1"]]


def test_every_term_of_a_loss_has_a_name(config_of):
    _, losses = pair(config_of, "mode=cls_distill")
    assert [list(terms) for terms in losses] == [["ce/student", "mimic/student", "ce/student1", "mimic/student1"]]


def test_without_detaching_one_mimic_term_reaches_both_networks_as_in_the_original(config_of):
    networks, [terms] = pair(config_of, "mode=cls_distill", "mimic=js_original", "mimic.detach_peer=false")
    assert list(terms) == ["ce/student", "ce/student1", "mimic/pair"]
    terms["mimic/pair"].backward()
    assert all(gradient.any() for name in networks for gradient in gradients(networks[name]))


def test_distillation_leaves_the_labels_their_share(config_of):
    _, [first, _] = pair(config_of, "mode=cls_distill_multiopt", "mimic=kd", "mimic.alpha=1.0")
    assert float(first["ce/student"]) == 0.0


def test_the_weight_of_the_mimic_term_is_a_factor(config_of):
    _, [plain, _] = pair(config_of, "mode=cls_distill_multiopt")
    _, [tripled, _] = pair(config_of, "mode=cls_distill_multiopt", "mimic.weight=3")
    assert float(tripled["mimic/student"]) == pytest.approx(3 * float(plain["mimic/student"]), rel=1e-6)


def test_a_mimic_loss_of_the_user_is_called(config_of):
    _, [first, _] = pair(
        config_of, "mode=cls_distill_multiopt", "mimic=custom", "mimic.target=tests.samples:squared_distance"
    )
    assert float(first["mimic/student"]) > 0


def test_without_detaching_other_mimic_losses_keep_a_term_for_each_network(config_of):
    networks, [terms] = pair(config_of, "mode=cls_distill", "mimic=kl", "mimic.detach_peer=false")
    assert {"mimic/student", "mimic/student1"} < terms.keys()
    terms["mimic/student"].backward()
    assert all(gradient.any() for name in networks for gradient in gradients(networks[name]))
