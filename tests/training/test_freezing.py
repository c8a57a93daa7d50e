"""What is frozen stays as it is, bit for bit, and the rest trains as it would."""

from __future__ import annotations

import numpy as np
import pytest
from paddle import nn

from runner.training.loop import fit, train_step
from runner.worker import experiment
from tests.training.test_loop import Witness

#: 3 batches an epoch, 2 epochs.
RUN = [
    "data=synthetic", "data.train_images=60", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=16",
    "model=mobilenet_v3_small_x0_35", "train.epochs=2", "train.threads=1", "tracking=none",
]  # fmt: skip
COMPOSITIONS = {
    "cls": [],
    "cls by Paddle's own layers": ["train.accelerate=off", "optimizer=momentum"],
    "cls with averages, in parts": ["train.ema=0.9", "train.accumulate=2", "optimizer.clip_norm=0.5"],
    "cls with decay and scales": [
        "optimizer.layer_decay=0.8", "+optimizer.lr_scale={head: 2}", "optimizer.decay_exempt=nothing",
    ],
    "cls with qat": ["compression=qat"],
    "cls with fpgm": ["compression=fpgm"],
    "cls_distill": ["mode=cls_distill"],
    "cls_distill_multiopt": ["mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=rmsprop"],
}  # fmt: skip


def state(run):
    own = {name: value.numpy().copy() for name, value in run.training.networks.state_dict().items()}
    averages = run.training.ema.averages if run.training.ema else {}
    return own | {f"{name} on average": value.numpy().copy() for name, value in averages.items()}


def moved(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def of_head(name):
    return name.split(".")[1] == "out"


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_frozen_backbone_stays_as_it_is_in_all_its_state(config_of, name):
    run = experiment.build(config_of(*RUN, "model.freeze=[backbone]", *COMPOSITIONS[name]))
    before = state(run)
    fit(run.training, Witness())
    changed = moved(before, state(run))
    assert all(map(of_head, changed))
    networks = run.training.networks.trained
    weights = {f"{network}.out.{kind}" for network in networks for kind in ("weight", "bias")}
    assert changed >= weights
    for optimization in run.training.optimizations:
        assert all(map(of_head, optimization.parameters))
    for network in networks:
        costs, head = run.costs[network], run.training.networks[network].out
        assert costs["trainable_params"] == sum(p.size for p in (head.weight, head.bias)) < costs["params"]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_after_some_epochs_all_of_it_trains(config_of, name):
    words = ["model.freeze=[backbone]", "model.freeze_epochs=1", *COMPOSITIONS[name]]
    run = experiment.build(config_of(*RUN, *words))
    before, after_step = state(run), []

    class Watching(Witness):
        def stepped(self):
            after_step.append(state(run))

    fit(run.training, Watching())
    per_epoch = run.training.loaders.train.batches_per_epoch
    assert all(map(of_head, moved(before, after_step[per_epoch - 1])))
    changed = moved(after_step[per_epoch - 1], after_step[per_epoch])
    for network in run.training.networks.trained:
        assert f"{network}.conv1.bn._mean" in changed
        assert f"{network}.last_second_conv.conv.weight" in changed
    assert "trainable_params" not in run.costs["student"]


def test_what_was_frozen_begins_with_moments_of_zero(config_of):
    words = ["model.freeze=[backbone]", "model.freeze_epochs=1", "schedule=constant", "optimizer.weight_decay=0"]
    run = experiment.build(config_of(*RUN, *words, "optimizer.lr=0.01"))
    training, before = run.training, state(run)
    training.networks.train()
    for batch in training.loaders.train.epoch(0):
        train_step(training, batch)
        training.progress.step += 1
    train_step(training, next(iter(training.loaders.train.epoch(1))))
    change = np.abs(state(run)["student.last_second_conv.conv.weight"] - before["student.last_second_conv.conv.weight"])
    # The first step of Adam is the learning rate, whatever the gradient.
    assert np.median(change) == pytest.approx(0.01, rel=0.02)


def gradients(run):
    """Of one step's loss, of all parameters that have one; no statistics follow the batch."""
    training = run.training
    training.networks.hold([layer for layer in training.networks.sublayers() if isinstance(layer, nn.BatchNorm2D)])
    batch = next(iter(training.loaders.train.epoch(0)))
    outputs = training.networks(batch.images)
    for terms in training.mode.losses(outputs, batch.labels, 0):
        sum(terms.values()).backward()
    return {name: p.grad.numpy() for name, p in training.networks.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accelerate", ["auto", "off"])
@pytest.mark.parametrize("patterns", ["backbone", "conv?,conv1?.bottleneck_conv", "*.conv.weight,*.bn"])
def test_gradients_of_the_rest_are_those_of_a_network_that_trains_as_a_whole(config_of, accelerate, patterns):
    words = [*RUN, f"train.accelerate={accelerate}", "model.dropout=0"]
    whole = experiment.build(config_of(*words))
    run = experiment.build(config_of(*words, f"model.freeze=[{patterns}]"))
    everything, rest = gradients(whole), gradients(run)
    frozen = {name for name, p in run.training.networks.named_parameters() if p.stop_gradient}
    assert rest.keys() == everything.keys() - frozen
    assert len(rest) < len(everything)
    for name, value in rest.items():
        np.testing.assert_array_equal(value, everything[name], err_msg=name)


def test_a_frozen_beginning_is_not_part_of_the_backward_pass(config_of):
    run = experiment.build(config_of(*RUN, "model.freeze=[conv?,conv1?]"))
    networks = run.training.networks
    networks.train()
    seen = {}
    for name in ("conv5", "conv12", "last_second_conv"):
        layer = getattr(networks["student"], name)
        layer.register_forward_post_hook(lambda _layer, _in, out, name=name: seen.update({name: out.stop_gradient}))
    networks(next(iter(run.training.loaders.train.epoch(0))).images)
    assert seen == {"conv5": True, "conv12": True, "last_second_conv": False}


def test_the_clock_ends_a_run_that_began_with_its_head(config_of):
    words = [word for word in RUN if "epochs" not in word]
    words += ["train.max_minutes=0.03", "model.freeze=[backbone]", "model.freeze_epochs=0.5"]
    run = experiment.build(config_of(*words))
    before = state(run)
    fit(run.training, Witness())
    assert run.training.progress.step > 2
    assert "student.conv1.conv.weight" in moved(before, state(run))


def test_evaluation_leaves_frozen_layers_in_eval_mode_and_others_in_training(config_of):
    run = experiment.build(config_of(*RUN, "model.freeze=[conv1]"))
    fit(run.training, Witness())
    network = run.training.networks["student"]
    assert [network.conv1.bn.training, network.conv2.expand_conv.bn.training] == [False, True]
