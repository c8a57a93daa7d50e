"""Weights on disk: atomic, refused when they do not fit, foreign files without running what is in them."""

from __future__ import annotations

import os
import pickle

import numpy as np
import paddle
import pytest
from paddle import nn
from safetensors.numpy import load_file, save_file

from runner import checkpoint, experiment, weights
from runner.errors import CheckpointError, Diverged
from runner.loop import train_step
from runner.models import Networks

#: What the worker says about a run in its checkpoints.
ABOUT = {"data": "d", "classes": ["a"], "config": "c", "seconds": 0.0}


def networks(*names):
    return Networks({name: nn.Linear(3, 2) for name in names})


def linear(fill):
    return {"weight": np.full((3, 2), fill, np.float32), "bias": np.full(2, fill, np.float32)}


def prefixed(name, arrays):
    return {f"{name}.{key}": value for key, value in arrays.items()}


def initialized(target, arrays, strict=True):
    return weights.initialize(target, target.trained, weights.Weights("test", arrays), strict)


def test_weights_of_a_single_network_initialise_both_networks_of_a_pair():
    pair = networks("student", "student1")
    initialized(pair, linear(1.0))
    assert all(float(p.mean()) == 1.0 for p in pair.parameters())


def test_weights_of_a_run_with_one_student_initialise_both_networks_of_a_pair():
    pair = networks("student", "student1")
    initialized(pair, prefixed("student", linear(2.0)))
    assert all(float(p.mean()) == 2.0 for p in pair.parameters())


def test_weights_of_a_pair_keep_their_networks_apart():
    pair = networks("student", "student1")
    initialized(pair, prefixed("student", linear(1.0)) | prefixed("student1", linear(2.0)))
    assert float(pair["student"].bias.mean()) == 1.0
    assert float(pair["student1"].bias.mean()) == 2.0


def test_a_single_network_takes_the_student_of_a_pair():
    single = networks("student")
    initialized(single, prefixed("student", linear(1.0)) | prefixed("student1", linear(2.0)))
    assert float(single["student"].bias.mean()) == 1.0


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weight": np.zeros((3, 2), np.float32)}, "1 missing: student.bias"),
        (linear(0) | {"extra": np.zeros(1, np.float32)}, "1 not used: student.extra"),
        (linear(0) | {"weight": np.zeros((4, 2), np.float32)}, "1 of another shape: student.weight [4, 2]≠[3, 2]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_unless_told_otherwise(arrays, said):
    single = networks("student")
    with pytest.raises(CheckpointError) as refused:
        initialized(single, arrays)
    assert said in str(refused.value)
    assert "checkpoint.strict=false" in str(refused.value)
    assert "of 2 tensors" in initialized(single, arrays, strict=False)


def test_nothing_that_fits_is_refused_even_when_not_strict():
    with pytest.raises(CheckpointError, match="0 of 2"):
        initialized(networks("student"), {"other": np.zeros(1, np.float32)}, strict=False)


def test_paddles_own_weight_files_are_read(tmp_path):
    layer = nn.Linear(3, 2)
    paddle.save(layer.state_dict(), str(tmp_path / "w.pdparams"))
    read = weights.read(str(tmp_path / "w.pdparams")).arrays
    np.testing.assert_array_equal(read["weight"], layer.weight.numpy())


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_in_a_weight_file_does_not_run(tmp_path):
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"weight": Hostile(str(tmp_path / "ran"))}))
    with pytest.raises(CheckpointError, match="mkdir"):
        weights.read(str(tmp_path / "w.pdparams"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pdparams"])
def test_a_truncated_file_is_named(tmp_path, name):
    save_file(linear(1.0), tmp_path / "whole")
    (tmp_path / name).write_bytes((tmp_path / "whole").read_bytes()[:20])
    with pytest.raises(CheckpointError, match=name):
        weights.read(str(tmp_path / name))


def test_a_place_without_weights_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there are no weights"):
        weights.read(str(tmp_path / "nothing"))


@pytest.fixture
def run(config_of):
    return experiment.build(
        config_of(
            "data=synthetic", "data.train_images=40", "model=custom", "model.target=tests.samples:linear_network",
            "mode=cls_distill_multiopt", "optimizer=momentum", "schedule.warmup_epochs=0", "train.ema=0.9",
        )
    )  # fmt: skip


def saved(tmp_path, run, better=True, keep=1):
    batch = next(run.training.loaders.train.epoch(0))
    train_step(run.training, batch)
    run.training.progress.step += 1
    run.training.checkpoints.keep = keep
    return checkpoint.save(tmp_path, run.training, better, ABOUT)


def test_a_checkpoint_has_weights_averages_and_optimizer_state_under_structured_names(tmp_path, run):
    folder = saved(tmp_path, run)
    names = set(run.training.networks.state_dict())
    assert set(load_file(folder / checkpoint.MODEL)) == names
    assert set(load_file(folder / checkpoint.EMA)) == names
    optimizer = load_file(folder / checkpoint.OPTIMIZER)
    assert "0.student.1.weight/velocity_0" in optimizer
    assert "1.student1.1.weight/velocity_0" in optimizer


def test_the_best_checkpoint_and_the_newest_ones_stay(tmp_path, run):
    folders = [saved(tmp_path, run, better=number == 1, keep=1).name for number in range(5)]
    here = tmp_path / "checkpoints"
    assert checkpoint.pointed(here, "last") == folders[4]
    assert checkpoint.pointed(here, "best") == folders[1]
    assert sorted(path.name for path in here.glob("step-*")) == [folders[1], folders[3], folders[4]]
    assert not list(here.glob(".*"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path, run):
    first = saved(tmp_path, run)
    parameter = run.training.networks.parameters()[0]
    parameter.set_value(paddle.full_like(parameter, float("nan")))
    with pytest.raises(Diverged, match="not finite after step 1"):
        checkpoint.save(tmp_path, run.training, True, ABOUT)
    assert checkpoint.pointed(tmp_path / "checkpoints", "best") == first.name
