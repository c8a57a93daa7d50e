"""What is refused, or said, of a run before its first step, once the number of its steps is known."""

from __future__ import annotations

import pytest

from runner.errors import ConfigError
from runner.training import range_test
from runner.training.loop import fit
from runner.worker import experiment
from tests.training.test_loop import LINEAR, Witness

#: 6 batches an epoch.
DATA = ["data=synthetic", "data.train_images=60", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=8"]


def notes(config_of, *overrides):
    return experiment.build(config_of(*DATA, *LINEAR, "tracking=none", *overrides)).notes


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["schedule=piecewise", "train.epochs=5"], "schedule.boundaries=[30.0, 60.0, 90.0]: the run ends before them"),
        (["schedule=plateau", "train.epochs=5"], "schedule.patience=10: the run has 5 validations, so its learning"),
        (["schedule=plateau", "schedule.patience=4", "train.epochs=5"], "the run has 5 validations"),
        (["schedule=plateau", "schedule.patience=4", "train.epochs=6"], None),
        (["schedule=plateau", "schedule.patience=4", "train.epochs=6", "train.eval_every=2"], "has 3 validations"),
        (["schedule=plateau", "schedule.patience=4", "train.epochs=2", "train.eval_every_steps=2"], None),
        (["schedule=piecewise", "schedule.boundaries=[1]", "schedule.factors=[1,0.1]", "train.epochs=2"], None),
        (["schedule=piecewise", "schedule.boundaries=[1]", "schedule.factors=[1,0.1]", "train.epochs=1"], "[1.0]:"),
    ],
)
def test_a_schedule_that_never_acts_is_said(config_of, overrides, note):
    said = [text for text in notes(config_of, *overrides) if "learning rate is constant" in text]
    assert [note] * (note is not None) == [note for text in said if note and note in text]
    assert len(said) == (note is not None)


def test_a_schedule_of_the_user_that_fails_at_its_end_is_refused_before_the_first_step(config_of):
    schedule = ["schedule=custom", "schedule.target=tests.samples:listed_rates"]
    with pytest.raises(ConfigError, match="raised IndexError"):
        notes(config_of, *schedule, "+schedule.kwargs={rates:[1,1,1]}", "train.max_steps=4")
    run = experiment.build(
        config_of(*DATA, *LINEAR, *schedule, "+schedule.kwargs={rates:[1,1,1]}", "train.max_steps=3", "tracking=none")
    )
    witness = Witness()
    fit(run.training, witness)
    assert witness.checkpoints == [(3, True)]


def test_mixing_that_would_never_begin_is_refused_with_steps_as_with_epochs(config_of):
    mixing = ["augment.mixup=0.2", "augment.mix_off_epochs=3"]
    with pytest.raises(ConfigError, match="no image would ever be mixed in the 3 epochs of train.max_steps=18"):
        notes(config_of, *mixing, "train.max_steps=18")
    notes(config_of, *mixing, "train.max_steps=19")


def labels_of(config_of, *overrides):
    run = experiment.build(config_of(*DATA, *LINEAR, "tracking=none", *overrides))
    loader = run.training.loaders.train
    return [batch.labels for epoch in range(3) for batch in loader.epoch(epoch)]


def test_a_run_that_mixes_has_soft_labels_in_every_epoch(config_of):
    mixing = ["augment.mixup=0.2", "augment.mix_off_epochs=1", "augment.mix_last_probability=0", "train.epochs=3"]
    labels = labels_of(config_of, *mixing)
    assert {str(one.dtype) for one in labels} == {"paddle.float32"}
    assert {tuple(one.shape)[1] for one in labels} == {10}
    whole = [bool((one.numpy().max(axis=1) == 1).all()) for one in labels]
    assert whole == [False] * 6 + [True] * 12
    loss = ["loss=custom", "loss.target=tests.samples:soft_cross_entropy"]
    run = experiment.build(config_of(*DATA, *LINEAR, *mixing, *loss, "tracking=none"))
    witness = Witness()
    fit(run.training, witness)
    assert [step for step, *_ in witness.evaluations] == [6, 12, 18]


def test_two_steps_show_what_mixing_does(config_of):
    labels = labels_of(config_of, "augment.cutmix=1", "augment.mix_off_epochs=2", "+debug=fast_dev_run")
    assert (labels[0].numpy().max(axis=1) < 1).any()


@pytest.mark.parametrize(
    "overrides",
    [
        ["mode=cls_distill", "mimic=dml", "mimic.ramp.epochs=15", "train.epochs=20"],
        ["compression=fpgm", "compression.prune.begin_epoch=15", "compression.prune.parts=3", "train.epochs=20",
         "model=mobilenet_v3_small_x0_35", "~model.target"],
    ],
)  # fmt: skip
def test_a_range_test_is_as_short_as_it_is_asked_to_be(config_of, overrides):
    """The run is checked for the length of its ramps and cuts; the test of learning rates ends before them."""
    network = [] if "~model.target" in overrides else LINEAR
    config = config_of(*DATA, *network, "tracking=none", *(text for text in overrides if text[0] != "~"))
    tested = range_test.configured(config, 1e-4, 1e-1, 10)
    with pytest.raises(ConfigError):
        experiment.build(tested)
    assert experiment.build(tested, whole=False).training.steps == 10
