"""The weights that a run begins with, and what stays random."""

from __future__ import annotations

import re

import paddle
import pytest
from safetensors.numpy import save_file

from runner import config as cfg
from runner import models
from runner.errors import ConfigError
from runner.worker import experiment
from tests.worker.test_finetuning import RUN

RESNET = [*RUN, "model=resnet10_x0_5"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a ResNet for the classes of synthetic images."""

    def written(name, **left_out):
        paddle.seed(3)
        network = models.build(cfg.ResNet(depth=10, scale=0.5), 10)
        state = {key: value.numpy() for key, value in network.state_dict().items() if key not in left_out}
        path = tmp_path_factory.mktemp("weights") / name
        save_file(state, path)
        return path

    return written


def notes(config_of, *words):
    return experiment.build(config_of(*words)).notes


def test_a_layer_that_no_weights_fit_is_not_frozen_to_the_end(config_of, weights):
    words = [*RESNET, "model.stem=small", f"model.weights={weights('w.safetensors')}"]
    with pytest.raises(
        ConfigError, match=r"conv1.conv.weight of student would stay random.*model.freeze=\['backbone'\]"
    ):
        notes(config_of, *words, "model.freeze=[backbone]")
    # For a while, or without that layer, it is what was asked for.
    assert notes(config_of, *words, "model.freeze=[backbone]", "model.freeze_epochs=1")
    assert notes(config_of, *words, "model.freeze=[blocks.0,blocks.1]")


def test_that_a_frozen_network_is_random_is_said(config_of):
    said = notes(config_of, *RESNET, "model.freeze=[backbone]")
    assert any("of student are random and frozen" in note for note in said)


@pytest.mark.parametrize("key", ["checkpoint.init_from", "model.weights"])
def test_where_nothing_trains_nothing_may_stay_random(config_of, weights, key):
    path = weights("w.safetensors", **{"out.bias": None})
    words = [*RESNET, f"{key}={path}", "checkpoint.strict=false"]
    with pytest.raises(ConfigError, match=r"out.bias of student would stay random.*nothing is trained here"):
        notes(config_of, *words, "train.epochs=0", "schedule=constant")
    assert notes(config_of, *words)


def test_a_stem_for_other_channels_is_named_where_init_from_is_not_strict(config_of, weights):
    grey = ["data.channels=1", "data.mean=[0.5]", "data.std=[0.5]", "checkpoint.strict=false"]
    said = notes(config_of, *RESNET, *grey, f"checkpoint.init_from={weights('w.safetensors')}")
    named = r"1 of another shape, 0 not used\); student\.conv1\.\S*weight \[\d+, 1, \d, \d\] keep their initial values"
    assert any(re.search(named, note) for note in said)


def test_that_peers_begin_with_equal_weights_is_said(config_of, weights):
    words = [*RESNET, "mode=cls_distill", f"checkpoint.init_from={weights('w.safetensors')}"]
    assert any("student and student1 begin with equal weights" in note for note in notes(config_of, *words))
    assert not any("equal weights" in note for note in notes(config_of, *words[:-1]))
    said = notes(config_of, *words, "mode.peers=3")
    assert any("student, student1 and student2 begin with equal weights" in note for note in said)


def test_peers_that_begin_with_equal_weights_of_their_own_are_said(config_of, weights):
    path = weights("w.safetensors")
    words = [*RESNET, "mode=cls_distill", "mode.peers=3", "model@mode.peer=resnet10_x0_5", f"mode.peer.weights={path}"]
    said = notes(config_of, *words)
    assert any("student1 and student2 begin with equal weights" in note for note in said)
