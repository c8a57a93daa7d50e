"""What the config says of frozen parts and learning rates, and what it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from runner.config import store
from runner.errors import ConfigError
from runner.runs.journal import Journal
from runner.training import range_test
from runner.training.state import Ending
from runner.worker import experiment, finetuning
from runner.worker.training_run import note_ending
from tests.conftest import INLINE

RUN = [
    "data=synthetic", "data.train_images=48", "data.val_fraction=0", "data.test_images=8", "data.batch_size=16",
    "model=mobilenet_v3_small_x0_35", "train.epochs=2", "train.threads=1", "tracking=none",
]  # fmt: skip
PEERS = ["mode=cls_distill_multiopt", "model@mode.peer=resnet18", "optimizer@mode.peer_optimizer=momentum"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.freeze=[conv_1]"], "model.freeze: 'conv_1' matches no layer"),
        (["model.freeze=['*']"], "nothing of student would train"),
        (["model.freeze=[backbone]", "model.freeze_epochs=2", "train.max_steps=6"], "_epochs=2: the run of 6 steps"),
        ([*PEERS, "mode.peer.freeze=[conv2]"], "mode.peer.freeze: 'conv2' matches no layer and no parameter of ResNet"),
        ([*PEERS, "+mode.peer_optimizer.lr_scale={conv2: 2}"], "mode.peer_optimizer.lr_scale: 'conv2' matches"),
        (["+optimizer.lr_scale={layer1: 2}"], "optimizer.lr_scale: 'layer1' matches no layer"),
        (["model.freeze=[conv1]", "+optimizer.lr_scale={conv_1: 2}"], "optimizer.lr_scale: 'conv_1' matches no layer"),
        (
            ["model=custom", "model.target=tests.samples:fully_convolutional", "model.freeze=[backbone,out]"],
            "nothing of student would train",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_training(config_of, overrides, message):
    with pytest.raises(ConfigError) as refused:
        experiment.build(config_of(*RUN, *overrides))
    assert message in str(refused.value)


def rates(run, number=0):
    optimization = run.training.optimizations[number]
    return {name: one.optimize_attr["learning_rate"] for name, one in optimization.parameters.items()}


def test_learning_rates_fall_from_block_to_block_and_a_scale_comes_on_top(config_of):
    words = ["optimizer.layer_decay=0.5", "+optimizer.lr_scale={conv1*: 3, conv1: 7}"]
    own = rates(experiment.build(config_of(*RUN, *words)))
    assert own["student.out.weight"] == 1
    assert own["student.last_conv.weight"] == 0.5
    assert own["student.conv2.linear_conv.bn.bias"] == 0.5**13
    assert own["student.conv10.linear_conv.conv.weight"] == 3 * 0.5**5
    assert own["student.conv1.conv.weight"] == 7 * 0.5**14


@pytest.mark.parametrize("pattern", ["backbone", "conv1", "conv1.*", "*"])
@pytest.mark.parametrize("frozen", ["backbone", "conv1"])
def test_a_scale_may_be_of_what_never_trains(config_of, pattern, frozen):
    words = [f"model.freeze=[{frozen}]", f"+optimizer.lr_scale={{{pattern}: 0.5}}"]
    own = rates(experiment.build(config_of(*RUN, *words)))
    assert own["student.out.weight"] == (0.5 if pattern == "*" else 1)
    assert not any(name.startswith("student.conv1.") for name in own)


def test_clips_have_their_own_factor_on_top_of_that_of_their_layer(config_of):
    words = ["compression=qat", "compression.quantize.pact.lr_factor=0.25", "+optimizer.lr_scale={backbone: 0.5}"]
    own = rates(experiment.build(config_of(*RUN, *words)))
    assert own["student.out._act_preprocess.alpha"] == 0.25
    assert own["student.last_conv._act_preprocess.alpha"] == 0.125
    assert own["student.last_conv.weight"] == 0.5


def test_each_network_has_what_its_own_model_and_optimizer_say(config_of):
    words = ["mode.peer.freeze=[layer1,layer2]", "+mode.peer_optimizer.lr_scale={fc: 4}", "optimizer.layer_decay=0.5"]
    run = experiment.build(config_of(*RUN, *PEERS, *words))
    student, peer = rates(run), rates(run, 1)
    assert student["student.last_conv.weight"] == 0.5
    assert peer["student1.fc.weight"] == 4
    assert peer["student1.layer3.0.conv1.weight"] == 1
    assert not any("layer1" in name for name in peer)
    assert "trainable_params" not in run.costs["student"]
    assert run.costs["student1"]["trainable_params"] < run.costs["student1"]["params"]


def test_a_pattern_of_scales_may_be_of_one_of_two_networks(config_of):
    words = ["mode=cls_distill", "model@mode.peer=resnet18", "+optimizer.lr_scale={last_conv: 2, fc: 3}"]
    own = rates(experiment.build(config_of(*RUN, *words)))
    assert [own["student.last_conv.weight"], own["student1.fc.weight"], own["student.out.weight"]] == [2, 3, 1]


@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_a_step_is_as_long_as_its_factor_says(config_of, optimizer):
    moved = []
    for words in ([], ["+optimizer.lr_scale={head: 0.125}"]):
        run = experiment.build(
            config_of(*RUN, f"optimizer={optimizer}", "optimizer.lr=0.5", "optimizer.weight_decay=0", *words)
        )
        weight = run.training.networks["student"].out.weight
        before = weight.numpy()
        weight.grad = paddle.ones_like(weight)
        run.training.optimizations[0].step()
        moved.append(before - weight.numpy())
    np.testing.assert_allclose(moved[1], 0.125 * moved[0], rtol=1e-4, atol=1e-6)


def test_the_notes_say_what_is_frozen_and_how_rates_fall(config_of):
    words = ["model.freeze=[conv1]", "model.freeze_epochs=0.5", "optimizer.layer_decay=0.9"]
    notes = experiment.build(config_of(*RUN, *words)).notes
    assert any(note.startswith("frozen for 2 steps (0.5 epochs): 232 of") for note in notes)
    assert any("has 15 blocks, and the first one has 0.229" in note for note in notes)


@pytest.mark.parametrize(("steps", "is_noted"), [(3, True), (4, False)])
def test_a_run_that_ends_before_all_of_it_trained_says_so(config_of, tmp_path, steps, is_noted):
    run = experiment.build(config_of(*RUN, "model.freeze=[backbone]", "model.freeze_epochs=1"))
    run.training.progress.step = steps
    notes = []
    note_ending(run, Ending.complete, Journal(tmp_path), SimpleNamespace(note=notes.append))
    assert is_noted == any("never trained: the run ended before model.freeze_epochs" in note for note in notes)


@pytest.mark.parametrize("override", ["+debug=fast_dev_run", "train.epochs=0"])
def test_a_run_that_should_not_train_for_long_says_nothing_of_frozen_parts(config_of, override):
    frozen = [*RUN, "model.freeze=[backbone]", "model.freeze_epochs=1"]
    freezing = experiment.build(config_of(*frozen)).training.freezing
    config = config_of(*frozen, override, "checkpoint.init_from=a", "train.max_steps=null")
    assert finetuning.never_trained(config, freezing, 0) == []


def test_parts_of_a_peer_of_its_own_are_named_by_its_key(config_of):
    words = ["mode=cls_distill", "model@mode.peer=mobilenet_v3_small_x0_35", "mode.peer.freeze=[backbone]"]
    config = config_of(*RUN, *words, "mode.peer.freeze_epochs=1")
    [note] = finetuning.never_trained(config, experiment.build(config).training.freezing, 1)
    assert note.startswith("frozen parts of student1 never trained: the run ended before mode.peer.freeze_epochs.")


def test_a_range_test_looks_at_what_trains_first(config_of):
    words = ["model.freeze=[backbone]", "model.freeze_epochs=1", "+optimizer.lr_scale={backbone: 0.1}"]
    config = range_test.configured(config_of(*RUN, *words), 1e-4, 1, 4)
    training = experiment.build(config).training
    assert len(range_test.run(training, lambda done, of: None).rates) == 4
    assert all(".out." in name for name in training.optimizations[0].parameters)


def test_a_config_is_stored_and_read_with_patterns(config_of, tmp_path):
    config = config_of(*RUN, "model.freeze=[backbone,'*.bn']", "+optimizer.lr_scale={*.mid_se.*: 2, head: 3}")
    store.write(config, tmp_path / "config.yaml")
    assert store.read(tmp_path / "config.yaml") == config


@pytest.mark.slow
def test_a_run_with_a_frozen_backbone_is_exported_and_says_what_trained(here, tmp_path):
    done = here(
        *INLINE, "model=mobilenet_v3_small_x0_35", "compression=ptq", "model.freeze=backbone", "hydra.run.dir=run",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    final = json.loads((tmp_path / "run" / "result.json").read_text())["final"]
    assert final["trainable_params"] == 1280 * 10 + 10
    assert final["int8_agreement"] > 0
