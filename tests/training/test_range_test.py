"""The range test trains at rising learning rates and finds where the loss falls fastest."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runner.training import range_test
from runner.worker import experiment

SMALL = ["data=synthetic", "data.train_images=40", "data.test_images=8", "data.batch_size=16", "tracking=none",
         "model=custom", "model.target=tests.samples:linear_network", "train.threads=1"]  # fmt: skip


def heard(training):
    told = []
    return range_test.run(training, lambda done, every: told.append((done, every))), told


def test_rates_rise_evenly_in_their_logarithm_over_as_many_epochs_as_it_takes(config_of):
    config = range_test.configured(config_of(*SMALL, "optimizer=sgd"), 1e-6, 1e-3, 10)
    run = experiment.build(config)
    assert run.training.loaders.train.batches_per_epoch == 3
    found, told = heard(run.training)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-6, 1e-3, 10), rtol=1e-6)
    assert told == [(step, 10) for step in range(1, 11)]
    assert len(found.losses) == len(found.smoothed) == 10


def test_it_trains_as_a_run_with_that_schedule_does(config_of):
    """Losses are those of plain steps of gradient descent, written by hand."""
    config = range_test.configured(config_of(*SMALL, "optimizer=sgd", "optimizer.weight_decay=0"), 1e-4, 1e-2, 10)
    found, _ = heard(experiment.build(config).training)
    training = experiment.build(config).training
    layer = training.networks["student"].sublayers()[-1]
    weight, bias = layer.weight.numpy().astype("float64"), layer.bias.numpy().astype("float64")
    batches = [batch for epoch in range(4) for batch in training.loaders.train.epoch(epoch)][:10]
    for batch, rate, loss in zip(batches, np.geomspace(1e-4, 1e-2, 10), found.losses, strict=True):
        images, labels = batch.images.numpy().reshape(len(batch.labels), -1), batch.labels.numpy()
        logits = images @ weight + bias
        logs = logits - logits.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        assert loss == pytest.approx(-logs[np.arange(len(labels)), labels].mean(), rel=1e-4)
        slope = (np.exp(logs) - np.eye(logs.shape[1])[labels]) / len(labels)
        weight -= rate * images.T @ slope
        bias -= rate * slope.sum(axis=0)


def test_it_ends_where_the_loss_explodes(config_of):
    config = range_test.configured(config_of(*SMALL, "optimizer=sgd"), 1e-4, 1e5, 60)
    found, _ = heard(experiment.build(config).training)
    assert 3 < len(found.rates) < 60
    assert all(map(math.isfinite, found.losses))


def test_a_second_optimizer_keeps_its_ratio_and_no_other_end_is_left(config_of):
    config = range_test.configured(
        config_of(
            *SMALL, "mode=cls_distill_multiopt", "optimizer.lr=0.01", "optimizer@mode.peer_optimizer=momentum",
            "mode.peer_optimizer.lr=0.03", "schedule@mode.peer_schedule=cosine", "train.max_minutes=1",
            "train.patience=3", "train.ema=0.9",
        ),
        1e-5, 1e-2, 10,
    )  # fmt: skip
    training = experiment.build(config).training
    assert [part.lr for part in training.optimizations] == pytest.approx([1e-5, 3e-5])
    for part in training.optimizations:
        for _ in range(9):
            part.schedule.step()
    assert [part.lr for part in training.optimizations] == pytest.approx([1e-2, 3e-2])
    assert (training.clock, training.ema, training.steps) == (None, None, 10)


def curve(loss):
    rates = np.geomspace(1e-6, 1, 121)
    return rates, range_test.of(list(rates), [float(loss(math.log10(rate))) for rate in rates], reach=3)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    """A logistic fall around 10⁻³, flat before, which turns up at 10⁻¹."""
    rates, found = curve(lambda power: 2 - 1.5 / (1 + math.exp(-4 * (power + 3))) + 9 * max(0, power + 1) ** 2)
    assert rates[found.suggested] == pytest.approx(1e-3, rel=0.2)
    assert 3e-2 < rates[found.lowest] < 2e-1


@pytest.mark.parametrize(
    "loss",
    [
        lambda power: -power,  # falls evenly up to the last rate
        lambda power: 2 if power < -1 else 1,  # falls at once, and is lowest right there
        lambda power: -(10 ** (2 * power)),  # falls ever faster, up to the last rate
        lambda power: 3 - (power > -2) + 5 * max(0, power + 1.9),
    ],
)
def test_the_suggestion_stays_a_tenth_below_the_lowest_loss(loss):
    rates, found = curve(loss)
    assert 0 < rates[found.suggested] <= rates[found.lowest] / 10 * (1 + 1e-6)


def test_a_range_within_a_tenth_of_the_lowest_loss_suggests_its_first_rate():
    rates = list(np.geomspace(0.1, 0.5, 50))
    found = range_test.of(rates, [2 - rate for rate in rates], reach=2)
    assert (found.suggested, found.lowest) == (0, 49)


def test_noise_moves_the_suggestion_by_less_than_a_factor_of_three():
    noise = iter(np.random.default_rng(0).normal(0, 0.02, 121))
    rates, found = curve(lambda power: 2 - 1.5 / (1 + math.exp(-4 * (power + 3))) + next(noise))
    assert 1 / 3 < rates[found.suggested] / 1e-3 < 3


def test_what_does_not_fall_suggests_nothing():
    assert curve(lambda power: 2.3)[1].suggested is None
    assert curve(lambda power: 2.3 + max(0, power + 2))[1].suggested is None
    assert range_test.of([1.0], [2.0], 1).suggested is None


def test_images_are_mixed_as_in_the_run(config_of):
    config = config_of("augment.mixup=0.2", "augment.mix_off_epochs=3")
    assert range_test.configured(config, 1e-4, 1, 20).augment.mix_off_epochs == 0
