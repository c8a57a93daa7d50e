"""Runs with several peers, several teachers and several losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.errors import ConfigError
from runner.training.loop import fit
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


@pytest.mark.parametrize("compression", ["qat", "fpgm"])
@pytest.mark.parametrize("mode", ["cls_distill", "cls_distill_multiopt"])
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
    words = ["mode=cls_teacher", f"mode.teacher_from={paths[0]}", f"mode.more_teachers=[{paths[1]}]"]
    run = built(*words, *SEVERAL, "compression=qat")
    first, second = (run.training.networks[name].conv1.conv.weight.numpy() for name in ("teacher", "teacher1"))
    assert not np.array_equal(first, second)
    assert [note.partition(" ")[0] for note in run.notes if "images of" in note] == ["teacher:", "teacher1:"]
    assert all(not name.startswith("teacher") for name in run.training.networks.state_dict())
    assert "mimic/parts/student" in terms_of(run)


def test_a_layer_of_a_further_loss_that_does_not_exist_is_named_with_its_key(built):
    words = ["mode=cls_distill", "+features@also.features.relations=rkd", "also.features.relations.layers=[conv99]"]
    with pytest.raises(ConfigError, match=r"also.features.relations.layers: student .* has no layer 'conv99'"):
        built(*words)
