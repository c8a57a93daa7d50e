"""Training on mixed pictures: who sees them, and losses of soft labels."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from runner.models.networks import Output
from runner.training.loop import train_step
from runner.worker import experiment
from tests.parallel import trained
from tests.training.test_loop import LINEAR

MIXED = ["augment.mixup=0.4", "augment.cutmix=1"]
#: Batches of 16 of small images, in this process.
DATA = [
    "data=synthetic", "data.train_images=48", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=16",
    "train.epochs=1", "tracking=none", "train.threads=1", "schedule=constant",
]  # fmt: skip


def test_a_teacher_sees_the_mixed_pictures_as_its_own_run_saw_pictures(config_of, tmp_path):
    words = [*trained.SHARED, *trained.taught(tmp_path), "data.image_size=24", *MIXED]
    run = experiment.build(config_of(*words))
    seen = {}
    for name in ("student", "teacher"):

        def note(layer, given, name=name):
            seen[name] = given[0].numpy()

        run.training.networks[name].register_forward_pre_hook(note)
    [batch, *_] = run.training.loaders.train.epoch(0)
    assert batch.labels.ndim == 2
    train_step(run.training, batch)
    assert np.array_equal(seen["student"], batch.images.numpy())
    # The teacher's run had other means and deviations: of the same pixels other numbers.
    mean, std = (np.array(values)[:, None, None] for values in (run.config.data.mean, run.config.data.std))
    pixels = seen["student"] * std + mean
    own = [np.array(values)[:, None, None] for values in ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7])]
    np.testing.assert_allclose(seen["teacher"], (pixels - own[0]) / own[1], atol=1e-4)


@pytest.mark.parametrize(
    "words",
    [["loss=focal"], ["loss=focal", "loss.class_weights=auto"], ["loss=label_smoothing"], ["loss=logit_adjustment"]],
    ids=" ".join,
)  # fmt: skip
def test_losses_take_mixed_labels_and_are_the_shares_of_plain_ones(config_of, words):
    run = experiment.build(config_of(*DATA, *LINEAR, *MIXED, *words))
    [batch, *_] = run.training.loaders.train.epoch(0)
    before = {name: value.numpy() for name, value in run.training.networks.state_dict().items()}
    logits = run.training.networks["student"](batch.images).detach()

    def loss(logits, labels):
        [terms] = run.training.mode.losses({"student": Output(logits, {})}, labels, 0)
        return terms["ce/student"]

    classes = logits.shape[-1]
    expected = 0.0
    for row in range(len(batch.labels)):
        for label in range(classes):
            share = float(batch.labels[row, label])
            expected += share * float(loss(logits[row : row + 1], paddle.to_tensor([label])))
    # A weighted mean divides by the weights of the classes, which single images have as well.
    if "loss.class_weights=auto" not in words:
        assert float(loss(logits, batch.labels)) == pytest.approx(expected / len(batch.labels), rel=1e-5)
    reading = train_step(run.training, batch)
    assert np.isfinite(reading.rates).all()
    after = run.training.networks.state_dict()
    assert any(not np.array_equal(after[name].numpy(), before[name]) for name in before)
