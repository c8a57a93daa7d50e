"""Runs with several peers, several teachers and several losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from runner.checkpoints import checkpoint, weights
from runner.checkpoints.state import ADAPTERS, MODEL, OPTIMIZER, About
from runner.errors import CheckpointError, ConfigError
from runner.training.loop import fit, train_step
from runner.worker import experiment
from tests.training.test_loop import Witness

RUN = [
    "data=synthetic", "data.train_images=24", "data.val_fraction=0.3", "data.test_images=8", "data.batch_size=8",
    "train.epochs=1", "schedule.warmup_epochs=0", "train.log_every=1", "train.threads=1", "tracking=none",
    "model=mobilenet_v3_small_x0_35",
]  # fmt: skip
SEVERAL = [
    "mimic=kd", "+mimic@also.mimic.parts=dkd", "+mimic@also.mimic.order=dist", "features=attention_transfer",
    "features.layers=[conv2]", "+features@also.features.relations=rkd", "also.features.relations.layers=[conv4]",
]  # fmt: skip


@pytest.fixture
def built(config_of):
    return lambda *overrides: experiment.build(config_of(*RUN, *overrides))


def terms_of(run):
    witness = Witness()
    fit(run.training, witness)
    assert all(math.isfinite(value) for _, values in witness.logs for value in values.values())
    return {name.removeprefix("train/loss/") for name in witness.logs[-1][1] if name.startswith("train/loss/")}


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        ("cls_distill", "qat"),
        ("cls_distill_multiopt", "fpgm"),
        pytest.param("cls_distill", "fpgm", marks=pytest.mark.slow),
        pytest.param("cls_distill_multiopt", "qat", marks=pytest.mark.slow),
    ],
)
def test_three_peers_train_with_several_losses_and_every_compression(built, mode, compression):
    run = built(f"mode={mode}", "mode.peers=3", *SEVERAL, f"compression={compression}")
    kinds = ("ce", "mimic", "mimic/parts", "mimic/order", "features", "features/relations")
    assert terms_of(run) == {f"{kind}/{name}" for kind in kinds for name in ("student", "student1", "student2")}


def test_a_student_has_several_teachers_of_its_own_files(built, tmp_path):
    paths = []
    for seed in (1, 2):
        network = built(f"train.seed={seed}").training.networks["student"]
        paths.append(tmp_path / f"{seed}.safetensors")
        save_file({name: value.numpy() for name, value in network.state_dict().items()}, paths[-1])
    other = f"+mode.more_teachers={{other:{{teacher_from:{paths[1]},teacher_mean:[0.2,0.2,0.2]}}}}"
    words = ["mode=cls_teacher", f"mode.teacher_from={paths[0]}", other]
    run = built(*words, *SEVERAL, "compression=qat")
    first, second = (run.training.networks[name].conv1.conv.weight.numpy() for name in ("teacher", "other"))
    assert not np.array_equal(first, second)
    assert [note.partition(" ")[0] for note in run.notes if "images of" in note] == ["teacher:", "other:"]
    assert [note for note in run.notes if "its own normalisation" in note] == [
        "other: it sees the images in its own normalisation and in 32×32 pixels"
    ]
    assert all(name.startswith("student.") for name in run.training.networks.state_dict())
    assert "mimic/parts/student" in terms_of(run)


@pytest.fixture(scope="module")
def files(config_of, tmp_path_factory):
    """Kind of network → a file of weights of one of that kind, of 10 classes; `other`: a ResNet of 12 others."""
    folder, paths = tmp_path_factory.mktemp("files"), {}
    kinds = {"mobile": [], "resnet": ["model=resnet10_x0_5"], "other": ["model=resnet10_x0_5", "data.classes=12"]}
    for kind, words in kinds.items():
        network = experiment.build(config_of(*RUN, *words)).training.networks["student"]
        paths[kind] = folder / f"{kind}.safetensors"
        save_file({name: value.numpy() for name, value in network.state_dict().items()}, paths[kind])
    return paths


def taught_by(files, first, second):
    """A student of two teachers, the second a ResNet that is named `big`."""
    return [
        "mode=cls_teacher", f"mode.teacher_from={files[first]}",
        f"+mode.more_teachers={{big:{{teacher_from:{files[second]}}}}}",
        "+model@mode.more_teachers.big.teacher=resnet10_x0_5",
    ]  # fmt: skip


AT_CONV2 = ["features=hint", "features.layers=[conv2]"]
#: The layers of a MobileNetV3 and of a ResNet, each in a term of its own.
EACH = [
    *AT_CONV2, "features.teachers=[teacher]", "+features@also.features.big=hint", "also.features.big.teachers=[big]",
    "also.features.big.layers=[conv2]", "also.features.big.peer_layers=[blocks.0]",
]  # fmt: skip


def test_teachers_of_two_kinds_are_followed_at_layers_of_their_own(built, files):
    run = built(*taught_by(files, "mobile", "resnet"), *EACH)
    assert {name.rpartition(".")[0] for name in run.training.mode.adapters.parameters} == {
        "adapters/features/student/teacher/conv2", "adapters/features/big/student/big/conv2",
    }  # fmt: skip
    assert {"mimic/student", "features/student", "features/big/student"} < terms_of(run)


def test_where_teachers_differ_in_their_layers_the_message_has_the_remedy_that_works(built, files):
    words = taught_by(files, "mobile", "resnet")
    with pytest.raises(ConfigError, match=r"features.layers: big \(ResNet\) has no layer 'conv2'") as refused:
        built(*words, *AT_CONV2)
    remedy = str(refused.value).splitlines()[-1].replace("…", "blocks.0").split()
    assert remedy == [EACH[2], *EACH[3:]]
    assert {"features/student", "features/big/student"} < terms_of(built(*words, *AT_CONV2, *remedy))
    with pytest.raises(ConfigError, match=r"it has other names than the student: features.peer_layers=\[…\]$"):
        built(*taught_by(files, "resnet", "resnet"), "model@mode.teacher=resnet10_x0_5", *AT_CONV2)


UNMEASURED = "its classes are others, so that only its features teach and its accuracy is not measured"


@pytest.mark.parametrize("term", ["hint", "attention_transfer", "rkd"])
def test_a_teacher_of_other_classes_teaches_its_features(built, files, term):
    words = ["mode=cls_teacher", f"mode.teacher_from={files['other']}", "model@mode.teacher=resnet10_x0_5"]
    words += [f"features={term}", "features.layers=[conv2]", "features.peer_layers=[blocks.0]"]
    run = built(*words, "~mimic")
    assert f"teacher: {UNMEASURED}" in run.notes
    assert not any("images of" in note for note in run.notes)
    stored, head = load_file(files["other"]), run.training.networks["teacher"].out
    np.testing.assert_array_equal(head.weight.numpy(), stored["out.weight"])
    assert head.weight.shape[1] == 12
    assert "features/student" in terms_of(run)
    with pytest.raises(CheckpointError, match=r"2 of another shape(.|\n)*by its features alone: ~mimic$"):
        built(*words)


def test_a_teacher_of_other_classes_stands_beside_one_whose_logits_are_followed(built, files):
    words = [*taught_by(files, "mobile", "other"), *EACH]
    run = built(*words, "mimic.teachers=[teacher]")
    assert f"big: {UNMEASURED}" in run.notes
    assert [note.partition(" ")[0] for note in run.notes if "images of" in note] == ["teacher:"]
    assert {"mimic/student", "features/student", "features/big/student"} < terms_of(run)
    with pytest.raises(CheckpointError, match=r"by its features alone: mimic.teachers=\[teacher\]$"):
        built(*words)


HINT = ["features=hint", "features.layers=[conv2,conv4.linear_conv]"]


@pytest.mark.parametrize(
    ("words", "further"),
    [
        (["mode=cls_distill", "compression=qat"], []),
        (["mode=cls_distill_multiopt", "model@mode.peer=resnet18"], ["features.peer_layers=[layer1,layer2]"]),
        (["mode.average=true", "mimic=kl", "compression=fpgm"], []),
    ],
)
def test_hints_train_adapters_that_checkpoints_have_and_networks_have_not(built, tmp_path, words, further):
    plain, run = built(*words), built(*words, *HINT, *further)
    networks, adapters = run.training.networks, run.training.mode.adapters.parameters
    before = {name: value.numpy() for name, value in adapters.items()}
    assert terms_of(run) >= {f"features/{name}" for name in networks.trained}
    assert all(not np.array_equal(before[name], value.numpy()) for name, value in adapters.items())
    assert run.costs == plain.costs
    assert networks.state_dict().keys() == plain.training.networks.state_dict().keys()
    (tmp_path / "checkpoints").mkdir()
    saved = checkpoint.save(tmp_path, run.training, True, About(data="", classes=[]), seconds=0.0)
    assert load_file(saved / ADAPTERS).keys() == adapters.keys()
    assert not {name for name in (*load_file(saved / MODEL), *weights.read(saved).arrays) if "adapters" in name}
    assert adapters.keys() < {key.partition(".")[2].rpartition("/")[0] for key in load_file(saved / OPTIMIZER)}
    for part in run.training.optimizations:
        own = {name for name in adapters if name.split("/")[2] in part.networks}
        assert own
        assert {name for name in part.parameters if name.startswith("adapters/")} == own


def test_a_hint_at_layers_without_maps_is_refused_before_training(built):
    with pytest.raises(ConfigError, match="'out' of student .*not maps .*name an earlier layer"):
        built("mode=cls_distill", "features=hint", "features.layers=[out]")


def test_a_mean_teacher_is_the_average_of_its_student_and_moves_no_gradient(built):
    run = built("mode.average=true", "mode.average_decay=0.3", "mimic=kl", "train.epochs=2")
    training = run.training
    student, average = (training.networks[name].state_dict() for name in ("student", "average"))
    expected = {name: value.astype("float64").numpy() for name, value in student.items()}
    training.networks.train()
    for step, batch in enumerate(training.loaders.train.epoch(0, 0)):
        train_step(training, batch)
        training.progress.step += 1
        decay = min(0.3, (1 + step) / (10 + step))
        for name, value in student.items():
            expected[name] = decay * expected[name] + (1 - decay) * value.astype("float64").numpy()
    assert step == 1
    for name, value in average.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-6)
        assert not np.array_equal(value.numpy(), student[name].numpy()) or "num_batches" in name
    assert all(parameter.grad is None for parameter in training.networks["average"].parameters())
    assert [*training.networks.trained] == ["student"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["mode.average=true"], "mode.average=true needs a loss that follows the average"),
        (["mode.average=true", "mimic=kl", "mimic.detach_peer=false"], "the average has no gradient"),
        (["mimic=kl"], "or mode.average=true to follow the network's own average"),
        (["mode=cls_distill", "mimic.ramp.steps=1", "mimic.ramp.epochs=1"], "both epochs and steps"),
        (["mode=cls_distill", "mimic.ramp.begin=1"], "mimic.ramp has no length"),
        (["mode=cls_distill", "mimic.ramp.steps=4"], "mimic.ramp changes until step 4, and the run has 2"),
        (
            ["mode=cls_distill", "mimic.ramp.epochs=2"],
            "mimic.ramp changes until epoch 2, and the run has train.epochs=1",
        ),
    ],
)
def test_what_cannot_be_followed_or_ramped_is_refused_with_the_remedy(built, words, reason):
    with pytest.raises(ConfigError, match=reason):
        built(*words)


def test_a_layer_of_a_further_loss_that_does_not_exist_is_named_with_its_key(built):
    words = ["mode=cls_distill", "+features@also.features.relations=rkd", "also.features.relations.layers=[conv99]"]
    with pytest.raises(ConfigError, match=r"also.features.relations.layers: student .* has no layer 'conv99'"):
        built(*words)
