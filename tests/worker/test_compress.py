"""What compression before and after training is given of the training images."""

from __future__ import annotations

import pytest

from runner.worker import experiment
from runner.worker.compress import TrainingImages
from tests.conftest import TINY

RUN = [
    "data=synthetic", "data.train_images=20", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=4",
    "compression.quantize.average_weight_bits=4", "compression.quantize.calibration_batches=1", *TINY,
]  # fmt: skip


@pytest.mark.parametrize("compression", ["qat", "lsq"])
def test_the_sensitivity_to_fewer_bits_is_measured_on_as_many_images_as_it_asks_for(config_of, compression):
    words = [f"compression={compression}", "compression.quantize.sensitivity_images"]
    few = experiment.build(config_of(*RUN, words[0], f"{words[1]}=16"))
    assert not any("asks for more" in note for note in few.notes)
    many = experiment.build(config_of(*RUN, words[0], f"{words[1]}=17"))
    [note] = [note for note in many.notes if "asks for more" in note]
    assert "measured on all 16 training images" in note


def test_the_sensitivity_to_pruning_says_if_it_has_fewer_images_than_it_asks_for(config_of):
    words = ["compression=fpgm", "compression.prune.allocation=sensitivity", "compression.prune.sensitivity_images"]
    few = experiment.build(config_of(*RUN[:5], *TINY, *words[:2], f"{words[2]}=4"))
    assert not any("asks for more" in note for note in few.notes)
    many = experiment.build(config_of(*RUN[:5], *TINY, *words[:2], f"{words[2]}=5"))
    [note] = [note for note in many.notes if "asks for more" in note]
    assert "measured on all 4 images of the val split" in note


def test_training_images_begin_anew_every_time(config_of):
    images = TrainingImages(experiment.build(config_of(*RUN[:5], *TINY)).training.loaders)
    first, second = ([batch.numpy().tobytes() for batch in images] for _ in range(2))
    assert first == second
    assert sum(map(len, images)) == 16
