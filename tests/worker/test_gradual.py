"""Pruning while a run is trained: what follows the networks, and which weights are the best."""

from __future__ import annotations

import copy
import os
from types import SimpleNamespace

import numpy as np
import pytest

from runner import models
from runner.checkpoints.state import About
from runner.compression import pruning, shapes, statistics
from runner.compression.plan import PruningPlan
from runner.compression.slim import parameters
from runner.errors import ConfigError
from runner.runs import protocol
from runner.runs.journal import Journal, events
from runner.training import pruning as following
from runner.training import seeding
from runner.training.loop import fit, train_step
from runner.training.state import Ending
from runner.worker import experiment
from runner.worker.compress import STATISTICS_BATCHES, calibration_images, evidence
from runner.worker.gradual import Gradual
from runner.worker.observers import Recorder
from tests.checkpoints.test_resume import Keeping

#: 4 batches an epoch.
RUN = [
    "data=synthetic", "data.train_images=40", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=8",
    "train.epochs=4", "train.threads=1", "tracking=none", "model=mobilenet_v3_small_x0_35", "compression=fpgm",
    "compression.prune.begin_epoch=1", "schedule=constant", "optimizer.lr=0.001",
]  # fmt: skip
STAGES = ["compression.prune.parts=2", "compression.prune.ratio=0.5"]


def one_step(run):
    run.training.networks.train()
    train_step(run.training, next(run.training.loaders.train.epoch(0)))
    run.training.progress.step += 1


@pytest.mark.parametrize(
    "optimizer", ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in ("momentum", "rmsprop", "lamb"))]
)
def test_the_state_of_optimizers_and_averages_loses_the_same_channels(config_of, optimizer):
    run = experiment.build(config_of(*RUN, f"optimizer={optimizer}", "train.ema=0.9"))
    training, pruner = run.training, run.training.pruner
    one_step(run)
    network, [optimization] = training.networks["student"], training.optimizations
    facts = evidence(run.config, pruner.stage, "student")
    kept, _ = pruning.choose_cut(network, pruner.settings, (3, 32, 32), facts, PruningPlan(**run.plan["student"]))
    own = optimization.optimizer._accumulators

    def states():
        values = {
            f"{kind}/{name}": state[parameter.name].numpy()
            for name, parameter in optimization.parameters.items()
            for kind, state in own.items()
            if parameter.name in state and state[parameter.name].shape == parameter.shape
        }
        averages = {f"ema/{name}": value.numpy() for name, value in training.ema.averages.items()}
        return values | averages | {f"/{name}": value.numpy() for name, value in training.networks.state_dict().items()}

    before = states()
    following.follow(training, "student", kept)
    after = states()
    assert before.keys() == after.keys()
    assert len(before) > 3 * len(kept)
    for name, value in before.items():
        axes = kept.get(name.partition("/")[2].removeprefix("student."), {})
        np.testing.assert_array_equal(after[name], shapes.taken(value, axes), err_msg=name)
    one_step(run)
    assert all(parameter.grad is None or parameter.grad.shape == parameter.shape
               for parameter in training.networks.parameters())  # fmt: skip


class Watching(Keeping):
    """Notes which evaluations were the best so far, and what was said."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.better, self.notes = {}, []

    def evaluated(self, progress, evaluation, better):
        self.better[progress.epochs_begun] = better

    def noted(self, text):
        self.notes.append((self.run.training.progress.epoch, text))
        assert len(self.notes) < 10, "cuts are made without end"


def test_weights_before_the_last_cut_are_never_the_best(tmp_path, config_of):
    directory = tmp_path / "run"
    (directory / "checkpoints").mkdir(parents=True)
    run = experiment.build(config_of(*RUN, *STAGES, "train.patience=1", "compression.prune.growth=linear"))
    watching, macs = Watching(directory, run), run.plan["student"]["macs"][0]
    fit(run.training, watching)
    assert [epoch for epoch, _ in watching.notes] == [1, 2]
    assert "pruned (2 of 2) student: " in watching.notes[1][1]
    assert watching.better[1] is watching.better[2] is False
    assert watching.better[3] is True
    assert run.training.progress.best_step > 8
    assert run.plan["student"]["macs"] == (macs, run.costs["student"]["macs"])
    assert run.costs["student"]["macs"] < 0.7 * macs


def test_the_tag_of_the_parameters_counts_those_that_are_left_behind_each_cut(tmp_path, config_of):
    run = experiment.build(config_of(*RUN, *STAGES))
    display, stop = SimpleNamespace(note=lambda text: None), SimpleNamespace(received=0)
    about = About(data="", splits={}, classes=[], plan={}, config="")
    recorder = Recorder(tmp_path, run, Journal(tmp_path), display, stop, protocol.Heartbeat(), None, about, 0.0)
    counts = [int(run.parameters)]
    for _ in range(2):
        recorder.noted(run.training.pruner.cut(run.training))
        counts.append(parameters(run.training.networks["student"]))
    assert counts[0] > counts[1] > counts[2]
    tags = [event["values"] for event, _ in events(tmp_path, kinds=("tags",))]
    assert tags == [{"parameters": str(count)} for count in counts[1:]]


def test_what_a_cut_reports_is_said_of_its_network(config_of, monkeypatch):
    run = experiment.build(config_of(*RUN, *STAGES, "mode=cls_distill"))

    def cut(self, training, name, report):
        report("no cut makes it fast")
        return "a plan"

    monkeypatch.setattr(Gradual, "_cut", cut)
    text = run.training.pruner.cut(run.training)
    parts = ["student: no cut makes it fast", "student: a plan", "student1: no cut makes it fast", "student1: a plan"]
    assert text.partition(") ")[2] == "; ".join(parts)


def test_a_run_of_two_steps_is_cut_as_well(config_of, tmp_path):
    run = experiment.build(config_of(*RUN, *STAGES, "+debug=fast_dev_run"))
    (tmp_path / "checkpoints").mkdir()
    assert fit(run.training, Watching(tmp_path, run)) is Ending.complete
    assert run.training.pruner.is_complete


def test_cuts_do_not_depend_on_networks_that_a_run_does_not_have(config_of, tmp_path):
    run = experiment.build(config_of(*RUN, *STAGES))
    # As in checkpoints of a run that began with those of a run of two networks.
    run.plan["student1"] = dict(run.plan["student"])
    (tmp_path / "checkpoints").mkdir()
    watching = Watching(tmp_path, run)
    assert fit(run.training, watching) is Ending.complete
    assert [epoch for epoch, _ in watching.notes] == [1, 2]


def test_a_run_that_is_asked_to_stop_makes_no_further_cut(config_of, tmp_path):
    class Stopping(Watching):
        def stopping(self):
            return self.run.training.progress.epoch == 1

    run = experiment.build(config_of(*RUN, *STAGES))
    (tmp_path / "checkpoints").mkdir()
    watching = Stopping(tmp_path, run)
    assert fit(run.training, watching) is Ending.interrupted
    assert watching.notes == []
    assert run.training.progress.step == 4


def test_a_network_that_is_not_fast_enough_after_the_last_cut_is_noted(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr(pruning, "_measured", lambda *_: (1.0, 2.0))
    monkeypatch.setattr(pruning, "_latency", lambda *_: [(10**9, 1.0), (10**6, 0.01)])
    run = experiment.build(config_of(*RUN, "compression.prune.budget=latency"))
    (tmp_path / "checkpoints").mkdir()
    watching = Watching(tmp_path, run)
    assert fit(run.training, watching) is Ending.complete
    [(_, note)] = watching.notes
    assert "compression.prune.ratio=0.3: MobileNetV3 is not that much faster here with" in note
    assert run.plan["student"]["cuts"] == 1


def test_a_criterion_that_fails_for_some_layer_is_refused_before_training(config_of):
    words = ["compression.prune.criterion=custom", "compression.prune.target=tests.samples:of_wide_filters"]
    with pytest.raises(ConfigError, match="of_wide_filters raised ValueError: no filters of one pixel"):
        experiment.build(config_of(*RUN, *words))


@pytest.mark.parametrize("penalty", ["loss", pytest.param("decoupled", marks=pytest.mark.slow)])
def test_scales_shrink_until_the_last_cut_and_the_term_is_logged(config_of, tmp_path, penalty):
    words = ["compression.prune.criterion=bn_scale", "train.log_every=4", "optimizer=momentum", "train.epochs=2"]
    sums = {}
    for sparsity in (0.0, 0.05):
        run = experiment.build(
            config_of(*RUN, *words, "optimizer.lr=0.05", "optimizer.weight_decay=0",
                      *([f"compression.prune.sparsity={sparsity}", f"compression.prune.penalty={penalty}"] if sparsity
                        else [])))  # fmt: skip
        (tmp_path / str(sparsity) / "checkpoints").mkdir(parents=True)
        watching = Keeping(tmp_path / str(sparsity), run, last=4)
        fit(run.training, watching)
        scales = [layer.weight for layer in run.training.networks.sublayers() if hasattr(layer, "_variance")]
        sums[sparsity] = sum(float(scale.abs().sum()) for scale in scales)
    assert sums[0.05] < 0.999 * sums[0.0]
    logged = watching.metrics[4, "train/loss/sparsity/student"]
    count = sum(scale.size for scale in scales)
    assert logged == pytest.approx(0.05 * count, rel=0.1)
    total = sum(value for (step, name), value in watching.metrics.items() if name.startswith("train/loss/"))
    beside = 0.0 if penalty == "loss" else logged
    assert watching.metrics[4, "train/loss"] == pytest.approx(total - beside, rel=1e-5)


def test_a_run_that_ends_before_the_last_cut_is_refused(config_of):
    with pytest.raises(ConfigError, match="the last cut is before epoch 2, and the run of 8 steps"):
        experiment.build(config_of(*RUN, *STAGES, "train.max_steps=8"))


def test_what_can_never_be_cut_is_refused_before_training(config_of):
    words = ["compression.prune.ratio=0.99", "compression.prune.budget=macs"]
    with pytest.raises(ConfigError, match="all that may be removed of MobileNetV3"):
        experiment.build(config_of(*RUN, *words))


@pytest.mark.parametrize("words", [["criterion=taylor"], ["criterion=custom", "target=tests.samples:by_chance"]])
def test_a_cut_changes_nothing_by_chance(config_of, words):
    run = experiment.build(config_of(*RUN, *(f"compression.prune.{word}" for word in words)))
    before = seeding.state()
    run.training.pruner.cut(run.training)
    assert seeding.state() == before


@pytest.mark.parametrize("words", [["train.ema=0.9"], ["mode.average=true", "mimic=kl"]])
def test_averages_have_statistics_of_their_own_weights_behind_a_cut(config_of, words):
    run = experiment.build(config_of(*RUN, *words))
    training = run.training
    one_step(run)
    training.pruner.cut(training)
    if training.ema:
        found = {name.partition(".")[2]: value.numpy() for name, value in training.ema.averages.items()}
        with training.ema.applied():
            network = copy.deepcopy(training.networks["student"])
    else:
        network = copy.deepcopy(training.networks["average"])
        found = {name: value.numpy() for name, value in network.state_dict().items()}
    statistics.restore(network, calibration_images(training.loaders, STATISTICS_BATCHES))
    own = training.networks["student"].state_dict()
    moved = 0
    for name, value in network.state_dict().items():
        if name.endswith(("._mean", "._variance")):
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
            moved += not np.allclose(found[name], own[name].numpy(), rtol=1e-4, atol=1e-5)
    assert moved


def test_a_cut_gives_signs_of_life_and_is_not_the_end_of_training(config_of, monkeypatch):
    run = experiment.build(config_of(*RUN))
    end, begin = os.pipe()
    monkeypatch.setenv(protocol.HEARTBEAT, str(begin))
    monkeypatch.setattr(protocol, "BEAT_EVERY_S", 0.01)
    run.training.pruner.cut(run.training)
    os.close(begin)
    with open(end, "rb") as signs:
        assert set(signs.read(10)) == set(protocol.BEAT)


@pytest.mark.slow
def test_a_network_is_as_much_faster_as_was_asked_here(config_of):
    words = [word for word in RUN if "begin_epoch" not in word and "mobilenet" not in word]
    run = experiment.build(
        config_of(*words, "model=resnet18", "compression.prune.budget=latency", "compression.prune.ratio=0.4")
    )
    (first, slow), *_, (_, fast) = run.plan["student"]["latency"]
    assert first == run.plan["student"]["macs"][0]
    assert fast < 0.6 * slow
    before, after = run.plan["student"]["ms"]
    assert after <= 0.6 * before
    assert f"→ {after:.3g} ms" in str(PruningPlan(**run.plan["student"]))


@pytest.mark.parametrize("begin", ["1", "null"])
def test_frozen_statistics_stay_as_they_are_where_no_channel_was_cut(config_of, begin):
    words = [word for word in RUN if "begin_epoch" not in word]
    words += [f"compression.prune.begin_epoch={begin}", "compression.prune.skip=[conv1.conv,conv2.*]", "train.ema=0.9"]
    frozen = experiment.build(config_of(*words, "model.freeze=[conv1,conv2,conv3]"))
    plain = experiment.build(config_of(*words))
    whole = models.build(frozen.config.model, 10).state_dict()
    statistics = []
    for run in (frozen, plain):
        network = run.training.networks["student"]
        for name in ("conv1.bn", "conv12.linear_conv.bn") if begin != "null" else ():
            layer = dict(network.named_sublayers())[name]
            layer._mean.set_value(layer._mean + 0.25)
        if begin != "null":
            run.training.pruner.cut(run.training)
        statistics.append({name: value.numpy() for name, value in network.state_dict().items() if "._mean" in name})
    added = 0.0 if begin == "null" else 0.25
    np.testing.assert_array_equal(statistics[0]["conv1.bn._mean"], added)
    uncut = {name for name in statistics[0] if statistics[0][name].shape == whole[name].shape}
    for name in uncut - {"conv1.bn._mean"}:
        assert name.startswith(("conv2.", "conv3.")) != statistics[0][name].any(), name
    assert not np.allclose(statistics[1]["conv1.bn._mean"], added)
    assert not np.allclose(statistics[0]["conv12.linear_conv.bn._mean"], added)
