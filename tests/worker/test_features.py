"""Runs whose networks follow the features of a peer or a teacher."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from runner.errors import ConfigError
from runner.training.loop import fit, train_step
from runner.worker import experiment
from tests.training.test_loop import Witness

SMALL = "model=mobilenet_v3_small_x0_35"
ANY = ["schedule.warmup_epochs=0", "train.log_every=1", "train.threads=1", "tracking=none", SMALL]
RUN = [
    "data=synthetic", "data.train_images=24", "data.val_fraction=0.3", "data.test_images=8", "data.batch_size=8",
    "train.epochs=1", *ANY,
]  # fmt: skip
AT = ["features=attention_transfer", "features.layers=[conv2,conv4.linear_conv]"]
COMPRESSIONS = ["none", "qat", "fpgm", "fpgm_qat", "ptq"]


@pytest.fixture
def built(config_of):
    return lambda *overrides: experiment.build(config_of(*RUN, *overrides))


@pytest.fixture(scope="module")
def teacher(config_of, tmp_path_factory):
    """Weights of a trained network, and a mode that has it as a teacher."""
    run = experiment.build(config_of(*RUN, "train.seed=9", "optimizer.lr=0.003"))
    fit(run.training, Witness())
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file({name: value.numpy() for name, value in run.training.networks["student"].state_dict().items()}, path)
    return ["mode=cls_teacher", f"mode.teacher_from={path}"]


def logged(run):
    witness = Witness()
    fit(run.training, witness)
    return [values for _, values in witness.logs]


MODES = ("cls_distill", "cls_distill_multiopt", "cls_teacher")
#: Of each mode one with, and of each compression; the slow tests have all of them.
DIAGONAL = list(zip(MODES, COMPRESSIONS, strict=False))


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        pytest.param(*case, marks=[] if case in DIAGONAL else pytest.mark.slow)
        for case in itertools.product(MODES, COMPRESSIONS)
    ],
)
def test_attention_transfer_trains_with_every_mode_and_compression(built, teacher, mode, compression):
    words = teacher if mode == "cls_teacher" else [f"mode={mode}"]
    lines = logged(built(*words, *AT, f"compression={compression}"))
    names = ["student"] if mode == "cls_teacher" else ["student", "student1"]
    for values in lines:
        terms = [values[f"train/loss/features/{name}"] for name in names]
        assert all(math.isfinite(term) and term > 0 for term in terms)
        others = sum(value for name, value in values.items() if "/ce/" in name or "/mimic/" in name)
        assert values["train/loss"] == pytest.approx(others + sum(terms), rel=1e-4)


def test_kernels_and_paddles_own_layers_give_the_same_losses(built, teacher):
    ours, paddles = (
        logged(built(*teacher, *AT, f"train.accelerate={how}", "optimizer=momentum")) for how in ("auto", "off")
    )
    for one, other in zip(ours, paddles, strict=True):
        assert one["train/loss/features/student"] == pytest.approx(other["train/loss/features/student"], rel=1e-3)


@pytest.mark.slow
def test_a_student_comes_to_attend_where_its_teacher_does(config_of, teacher):
    words = [*ANY, "data.limit=256", "data.batch_size=64", "train.epochs=20", "optimizer.lr=0.01", *teacher, *AT]
    distances = [
        attention_distance(experiment.build(config_of(*words, f"features.weight={weight}"))) for weight in (0, 1000)
    ]
    assert distances[1] < 0.6 * distances[0]


def attention_distance(run):
    """How far the attentions are apart on the validation split behind the last step."""
    fit(run.training, Witness())
    networks = run.training.networks
    networks.eval()
    batch = next(iter(run.training.loaders.val))
    outputs = networks(batch.images)
    maps = ([value.numpy() for value in outputs[name].features.values()] for name in ("student", "teacher"))
    total = 0.0
    for own, other in zip(*maps, strict=True):
        flat = [(value**2).sum(axis=1).reshape(len(value), -1) for value in (own, other)]
        own_attention, other_attention = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in flat)
        total += float(((own_attention - other_attention) ** 2).mean())
    return total


def test_a_teacher_of_another_kind_has_layers_of_other_names_channels_and_sizes(built, config_of, tmp_path):
    other = experiment.build(config_of(*RUN, "model=resnet18")).training.networks["student"]
    save_file({name: value.numpy() for name, value in other.state_dict().items()}, tmp_path / "resnet.safetensors")
    words = ["mode=cls_teacher", f"mode.teacher_from={tmp_path / 'resnet.safetensors'}", "model@mode.teacher=resnet18"]
    run = built(*words, *AT, "features.peer_layers=[layer1,layer2]")
    lines = logged(run)
    assert all(0 < values["train/loss/features/student"] < 1000 for values in lines)
    with pytest.raises(ConfigError, match=r"features.layers: teacher \(ResNet\) has no layer 'conv2'. Nearest: conv1"):
        built(*words, *AT)


def test_peers_of_two_kinds_follow_each_other(built):
    words = ["mode=cls_distill", "model@mode.peer=resnet18", *AT, "features.peer_layers=[layer1,layer2]"]
    [values, *_] = logged(built(*words))
    assert values["train/loss/features/student"] == pytest.approx(values["train/loss/features/student1"], rel=1e-4)


def test_a_feature_loss_of_the_user_trains(built):
    words = ["features=custom", "features.target=tests.samples:mean_difference", "features.layers=[conv2]"]
    lines = logged(built("mode=cls_distill", *words))
    assert all(values["train/loss/features/student"] > 0 for values in lines)


def test_the_siamese_network_has_the_layers_of_both_trunks(built):
    words = ["model=siamese", "model.size=small", "model.scale=0.35", "features.layers=[first.conv4,second.conv4]"]
    lines = logged(built("mode=cls_distill", "features=attention_transfer", *words))
    assert all(values["train/loss/features/student"] > 0 for values in lines)


def test_a_run_without_features_hooks_no_layer_in_a_step(built):
    run = built("mode=cls_distill")
    networks, seen = run.training.networks, []
    last = networks["student"].out
    last.register_forward_pre_hook(
        lambda layer, inputs: seen.append(sum(len(one._forward_post_hooks) for one in networks.sublayers()))
    )
    run.training.networks.train()
    train_step(run.training, next(iter(run.training.loaders.train.epoch(0, 0))))
    assert seen == [0]


def test_building_with_features_draws_no_random_number_and_changes_no_network(built):
    states = []
    for words in ([], AT):
        run = built("mode=cls_distill", "compression=qat", *words)
        networks = run.training.networks
        states.append(
            ({name: value.numpy() for name, value in networks.state_dict().items()}, paddle.rand([3]).numpy())
        )
    (plain, drawn), (tapped, drawn_too) = states
    np.testing.assert_array_equal(drawn, drawn_too)
    assert all(np.array_equal(plain[name], tapped[name]) for name in plain)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["features.layers=[conv44]"],
            r"features.layers: student \(MobileNetV3\) has no layer 'conv44'. Nearest: conv4",
        ),
        (["features.layers=[out]"], "'out' of student .*not maps .*name an earlier layer"),
        (["features.layers=[conv12]"], r"features=attention_transfer: .* one pixel in common.* features\.layers"),
        (
            [
                "features.layers=[conv2]",
                "+features@also.features.late=attention_transfer",
                "also.features.late.layers=[conv12]",
            ],
            r"also\.features\.late=attention_transfer: .* one pixel in common.* in also\.features\.late\.layers",
        ),
        (
            ["features.layers=[conv2]", "features.peer_layers=[cov2]"],
            r"features.peer_layers: student1 .*Nearest: conv2",
        ),
    ],
)
def test_layers_that_cannot_be_compared_are_refused_before_training(built, words, reason):
    with pytest.raises(ConfigError, match=reason):
        built("mode=cls_distill", "features=attention_transfer", *words)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("tests.samples:unequal", r"features=custom fails for student and student1 with 'conv2' \[2, 8, 8, 8\] and"),
        (
            "tests.samples:not_reduced",
            "returned float32 .*, not a paddle.Tensor with one floating-point number, such as",
        ),
        ("tests.samples:missing", "has no 'missing'"),
    ],
)
def test_a_feature_loss_of_the_user_that_does_not_fit_is_refused_before_training(built, target, reason):
    words = ["features=custom", f"features.target={target}", *AT[1:], "features.peer_layers=[layer1,layer2]"]
    with pytest.raises(ConfigError, match=reason):
        built("mode=cls_distill", "model@mode.peer=resnet18", *words)
