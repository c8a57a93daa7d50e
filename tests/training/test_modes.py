"""Whose gradient goes where."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn

from runner.models import Networks
from runner.training import losses, modes


def pair(config_of, *overrides):
    config = config_of(*overrides)
    paddle.seed(1)
    networks = Networks({"student": nn.Linear(6, 4), "student1": nn.Linear(6, 4)})
    images, labels = paddle.randn([5, 6]), paddle.to_tensor([0, 1, 2, 3, 0])
    return networks, modes.build(config).losses(networks(images), labels, 0)


class Small(nn.Layer):
    """A network with maps within it, [N, channels, 2, 3], of images [N, 6]."""

    def __init__(self, channels=2):
        super().__init__()
        self.maps, self.out = nn.Linear(6, 6 * channels), nn.Linear(6 * channels, 4)
        self.shaped = Shaped()

    def forward(self, images):
        return self.out(self.shaped(self.maps(images)).flatten(1))


class Shaped(nn.Layer):
    def forward(self, flat):
        return flat.reshape([len(flat), -1, 2, 3])


AT = ["features=attention_transfer", "features.layers=[shaped]"]


def tapped(config_of, *overrides, frozen=False):
    """Two networks with features, and the losses of both."""
    config = config_of(*overrides)
    paddle.seed(1)
    other = "teacher" if frozen else "student1"
    both = {"student": Small(), other: Small(channels=5)}
    networks = Networks({"student": both["student"]}, {other: both[other]}) if frozen else Networks(both)
    mode = modes.build(config)
    for name, layers in mode.taps.items():
        networks.tap(name, {layer: lambda maps: maps for layer in layers})
    return networks, mode.losses(networks(paddle.randn([5, 6])), paddle.to_tensor([0, 1, 2, 3, 0]), 0)


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


@pytest.mark.parametrize("mode", ["cls_distill", "cls_distill_multiopt"])
def test_the_feature_term_of_one_network_has_no_gradient_for_the_other(config_of, mode):
    for own, other in (("student", "student1"), ("student1", "student")):
        networks, losses = tapped(config_of, f"mode={mode}", *AT)
        terms = {name: value for part in losses for name, value in part.items()}
        terms[f"features/{own}"].backward()
        assert all(gradient is None or not gradient.any() for gradient in gradients(networks[other]))
        assert networks[own].maps.weight.grad.numpy().any()
        assert networks[own].out.weight.grad is None


def test_each_optimizer_of_multiopt_minimises_the_feature_term_of_its_own_network(config_of):
    _, losses = tapped(config_of, "mode=cls_distill_multiopt", *AT)
    assert [[*terms][-1] for terms in losses] == ["features/student", "features/student1"]


def test_a_teacher_has_no_feature_term(config_of):
    networks, [terms] = tapped(config_of, "mode=cls_teacher", "mode.teacher_from=here", *AT, frozen=True)
    assert list(terms) == ["ce/student", "mimic/student", "features/student"]
    sum(terms.values()).backward()
    assert networks["student"].maps.weight.grad.numpy().any()
    assert all(gradient is None for gradient in gradients(networks["teacher"]))


def test_features_can_be_all_that_is_followed(config_of):
    _, [terms] = tapped(config_of, "mode=cls_distill", "~mimic", *AT)
    assert list(terms) == ["ce/student", "features/student", "ce/student1", "features/student1"]


def test_features_stand_beside_one_mimic_term_of_both_networks(config_of):
    _, [terms] = tapped(config_of, "mode=cls_distill", "mimic=js_original", "mimic.detach_peer=false", *AT)
    assert list(terms) == ["ce/student", "ce/student1", "mimic/pair", "features/student", "features/student1"]


def test_the_weight_of_the_feature_term_is_a_factor(config_of):
    _, [plain] = tapped(config_of, "mode=cls_distill", *AT, "features.weight=1")
    _, [tripled] = tapped(config_of, "mode=cls_distill", *AT, "features.weight=3")
    assert float(plain["features/student"]) > 0
    assert float(tripled["features/student"]) == pytest.approx(3 * float(plain["features/student"]), rel=1e-6)


def test_a_feature_loss_of_the_user_gets_the_features_of_both_by_their_own_names(config_of):
    _, [first, second] = tapped(
        config_of, "mode=cls_distill_multiopt", "features=custom", "features.target=tests.samples:mean_difference",
        "features.layers=[shaped]", "+features.kwargs.scale=2",
    )  # fmt: skip
    assert float(first["features/student"]) == pytest.approx(float(second["features/student1"]), rel=1e-6)


def test_without_features_a_mode_taps_nothing(config_of):
    for overrides in ([], ["mode=cls_distill"], ["mode=cls_teacher", "mode.teacher_from=here"]):
        assert modes.build(config_of(*overrides)).taps == {}


def test_a_mode_names_the_layers_of_both_networks(config_of):
    named = modes.build(config_of("mode=cls_distill", *AT)).taps
    assert named == {"student": ["shaped"], "student1": ["shaped"]}
    words = ["mode=cls_teacher", "mode.teacher_from=here", *AT, "features.peer_layers=[layer1]"]
    assert modes.build(config_of(*words)).taps == {"student": ["shaped"], "teacher": ["layer1"]}


def several(config_of, *overrides, names=("student", "student1", "student2"), frozen=()):
    """Networks of a mode, the terms of its losses, and their config."""
    config = config_of(*overrides)
    paddle.seed(1)
    made = {name: nn.Linear(6, 4) for name in (*names, *frozen)}
    networks = Networks({name: made[name] for name in names}, {name: made[name] for name in frozen})
    images, labels = paddle.randn([5, 6]), paddle.to_tensor([0, 1, 2, 3, 0])
    outputs = networks(images)
    return networks, modes.build(config).losses(outputs, labels, 0), outputs


@pytest.mark.parametrize("mode", ["cls_distill", "cls_distill_multiopt"])
def test_each_of_several_peers_follows_the_mean_of_the_others(config_of, mode):
    _, parts, outputs = several(config_of, f"mode={mode}", "mode.peers=3")
    terms = {name: value for part in parts for name, value in part.items()}
    assert len(terms) == 6
    for name in outputs:
        others = [float(losses.kl_divergence(outputs[name].logits, outputs[o].logits)) for o in outputs if o != name]
        assert float(terms[f"mimic/{name}"]) == pytest.approx(sum(others) / 2, rel=1e-5)


def test_of_several_peers_each_has_an_optimizer_and_no_gradient_of_others(config_of):
    overrides = ["mode=cls_distill_multiopt", "mode.peers=3"]
    assert modes.build(config_of(*overrides)).owners == [["student"], ["student1"], ["student2"]]
    networks, parts, _ = several(config_of, *overrides)
    sum(parts[2].values()).backward()
    assert [networks[name].weight.grad is not None for name in networks] == [False, False, True]


def test_teachers_count_as_their_weights_say(config_of):
    overrides = [
        "mode=cls_teacher", "mode.teacher_from=a", "+mode.more_teachers={second:{teacher_from:b}}",
        "mode.teacher_weight=3", "mimic=kl",
    ]  # fmt: skip
    networks, [terms], outputs = several(config_of, *overrides, names=["student"], frozen=["teacher", "second"])
    student = outputs["student"].logits
    first, second = (float(losses.kl_divergence(student, outputs[name].logits)) for name in ("teacher", "second"))
    assert float(terms["mimic/student"]) == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)
    terms["mimic/student"].backward()
    mixed = 0.75 * paddle.nn.functional.softmax(outputs["teacher"].logits) + 0.25 * paddle.nn.functional.softmax(
        outputs["second"].logits
    )
    # The gradient is that of following the mean of their probabilities.
    own = paddle.nn.functional.softmax(outputs["student"].logits.detach())
    assert networks["student"].bias.grad.numpy() == pytest.approx((own - mixed).mean(0).numpy(), abs=1e-6)


def test_further_terms_have_names_weights_and_no_gradient_for_the_peer(config_of):
    overrides = ["mode=cls_distill_multiopt", "mimic=kd", "+mimic@also.mimic.relations=dist"]
    _, plain = pair(config_of, *overrides)
    assert [*plain[0]] == ["ce/student", "mimic/student", "mimic/relations/student"]
    networks, doubled = pair(config_of, *overrides, "also.mimic.relations.weight=2")
    term = "mimic/relations/student1"
    assert float(doubled[1][term]) == pytest.approx(2 * float(plain[1][term]), rel=1e-6)
    doubled[1][term].backward()
    assert networks["student"].weight.grad is None
    assert networks["student1"].weight.grad.numpy().any()


def test_the_labels_have_the_share_that_a_further_kd_leaves(config_of):
    _, [first, _] = pair(config_of, "mode=cls_distill_multiopt", "+mimic@also.mimic.kd=kd", "also.mimic.kd.alpha=1")
    assert float(first["ce/student"]) == 0.0


def test_feature_losses_of_different_layers_stand_beside_each_other(config_of):
    further = ["+features@also.features.relations=rkd", "also.features.relations.layers=[shaped]"]
    _, [terms] = tapped(config_of, "mode=cls_distill", "mimic=dml", *AT, *further)
    assert {"features/student", "features/relations/student", "features/relations/student1"} < terms.keys()
    other = ["also.features.relations.layers=[maps]", "also.features.relations.peer_layers=[out]"]
    named = modes.build(config_of("mode=cls_distill", *AT, *further, *other)).taps
    assert named == {"student": ["shaped", "maps"], "student1": ["shaped", "out"]}


TEACHERS = ["mode=cls_teacher", "mode.teacher_from=a", "+mode.more_teachers={big:{teacher_from:b,teacher_weight:0.5}}"]


def test_a_term_follows_the_teachers_that_it_names_with_their_whole_weight(config_of):
    words = [*TEACHERS, "mimic=kl", "mimic.teachers=[big]", "+mimic@also.mimic.first=kl"]
    _, [terms], outputs = several(
        config_of, *words, "also.mimic.first.teachers=[teacher]", names=["student"], frozen=["teacher", "big"]
    )
    for term, name in (("mimic/student", "big"), ("mimic/first/student", "teacher")):
        own = losses.kl_divergence(outputs["student"].logits, outputs[name].logits)
        assert float(terms[term]) == pytest.approx(float(own), rel=1e-6)


def test_each_teacher_is_read_at_the_layers_of_the_terms_that_follow_it(config_of):
    further = [
        "features.teachers=[teacher]", "+features@also.features.big=rkd", "also.features.big.teachers=[big]",
        "also.features.big.layers=[maps]", "also.features.big.peer_layers=[out]",
    ]  # fmt: skip
    config = config_of(*TEACHERS, *AT, *further)
    assert modes.build(config).taps == {"student": ["shaped", "maps"], "teacher": ["shaped"], "big": ["out"]}
    assert modes.with_followed_logits(config) == {"teacher", "big"}
    assert modes.with_followed_logits(config_of(*TEACHERS, *AT, "mimic.teachers=[big]")) == {"big"}
    assert modes.with_followed_logits(config_of(*TEACHERS, *AT, "~mimic")) == set()
