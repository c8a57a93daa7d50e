"""A run that ends by the clock: its steps, its learning rates and what a resumption may still take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.checkpoints import checkpoint, reading
from runner.checkpoints.state import About
from runner.errors import ConfigError
from runner.training import loop
from runner.training.clock import Clock
from runner.training.loop import fit, read_clock
from runner.training.state import Ending
from runner.worker import experiment

from .test_loop import LINEAR, Witness

#: 6 batches an epoch.
DATA = ["data=synthetic", "data.train_images=60", "data.val_fraction=0.2", "data.test_images=8", "data.batch_size=8"]


class Seconds(Witness):
    """A clock that goes on by a second a step."""

    steps, now = 0, 100.0

    def stepped(self):
        self.steps += 1
        self.now += 1


def timed(config_of, minutes, *overrides, earlier=0.0, most=None):
    """A run by a clock of its own, which nothing else makes go on."""
    words = [*DATA, *LINEAR, f"train.max_minutes={minutes}", "train.log_every=1", "tracking=none", *overrides]
    run = experiment.build(config_of(*words))
    seconds = Seconds()
    run.training.clock = Clock(minutes, earlier, most, now=lambda: seconds.now)
    return run, seconds


@given(st.integers(1, 10**6), st.floats(1e-3, 3599))
def test_the_part_of_the_steps_that_is_done_is_the_part_of_the_time_that_is_gone(step, spent):
    steps = Clock(60).steps(step, spent)
    assert steps > step
    assert steps == pytest.approx(max(step + 1, step * 3600 / spent), abs=0.51)


def test_when_the_time_is_up_no_step_is_left():
    assert Clock(1).steps(7, 60.0) == 7
    assert Clock(1, most=5).steps(3, 6.0) == 5
    clock = Clock(1)
    clock.reserve = 10.0
    assert clock.steps(7, 50.0) == 7
    assert clock.steps(7, 49.0) == 8


def test_a_run_ends_by_the_clock_however_many_epochs_that_is(config_of):
    run, seconds = timed(config_of, 0.5, "train.epochs=1")
    assert fit(run.training, seconds) is Ending.complete
    assert seconds.steps == run.training.steps == 30
    assert [step for step, *_ in seconds.evaluations] == [6, 12, 18, 24, 30]
    assert seconds.checkpoints[-1][0] == 30


def test_the_learning_rate_follows_the_clock_to_its_end(config_of):
    run, seconds = timed(config_of, 0.5, "schedule=polynomial", "schedule.warmup_epochs=0", "optimizer.lr=1")
    fit(run.training, seconds)
    rates = [values["train/lr"] for _, values in seconds.logs]
    # Half of the time is half of the way, as far as a step's length lets it.
    assert rates[0] == 1
    assert rates[15] == pytest.approx(0.5, abs=0.04)
    assert rates[-1] == pytest.approx(0, abs=0.04)
    assert rates == sorted(rates, reverse=True)


def test_a_resumed_run_has_what_is_left_of_its_time(config_of):
    run, seconds = timed(config_of, 0.5, earlier=20.0)
    fit(run.training, seconds)
    assert seconds.steps == 11


def test_the_steps_of_max_steps_are_the_end_where_they_come_first(config_of):
    run, seconds = timed(config_of, 5, "train.max_steps=9", most=9)
    fit(run.training, seconds)
    assert seconds.steps == 9


def test_a_run_by_the_clock_trains_without_epochs(config_of):
    run, seconds = timed(config_of, 0.1, "train.epochs=0")
    assert fit(run.training, seconds) is Ending.complete
    assert seconds.steps == 6


@pytest.mark.parametrize("minutes", [0, -1])
def test_a_budget_is_above_nothing(config_of, minutes):
    with pytest.raises(ConfigError, match="train.max_minutes"):
        config_of(f"train.max_minutes={minutes}")


def test_all_processes_have_the_length_that_the_first_one_tells(config_of):
    class Others:
        """A process that is not the first: what is broadcast was computed by another."""

        def broadcast_from_first(self, compute):
            return first.steps(first_step, 590.0)

    first, first_step = Clock(10), 1990
    first.reserve = 3.0
    run, _ = timed(config_of, 10)
    run.training.shard.ranks, run.training.progress.step = Others(), first_step
    run.training.clock.reserve = 9.0
    read_clock(run.training)
    assert run.training.steps == first.steps(first_step, 590.0)


def test_a_warm_up_of_epochs_is_refused_where_the_clock_ends_the_run(config_of):
    with pytest.raises(ConfigError, match="warmup_epochs=2.* cannot be combined with train.max_minutes"):
        config_of("schedule.warmup_epochs=2", "train.max_minutes=5")
    config_of("schedule.warmup_epochs=0", "train.max_minutes=5")


class Slow(Seconds):
    """Batches of a validation take their time too."""

    def stopping(self):
        self.now += 1
        return super().stopping()


def test_a_resumed_run_knows_what_its_last_validation_will_take(config_of, tmp_path):
    run, _ = timed(config_of, 1)
    seconds = Slow()
    run.training.clock.now = lambda: seconds.now
    assert fit(run.training, seconds) is Ending.complete
    assert run.training.clock.reserve == run.training.progress.validation_s > 0
    about, spent = About(data="d", classes=run.training.loaders.classes), run.training.clock.spent
    checkpoint.save(tmp_path, run.training, better=True, about=about, seconds=spent)
    saved, _ = reading.newest(tmp_path)
    again = experiment.build(run.config, saved)
    assert again.training.clock.reserve == run.training.clock.reserve
    # Nothing is left to train or to validate.
    witness = Slow()
    again.training.clock.now = lambda: witness.now
    assert fit(again.training, witness) is Ending.complete
    assert (witness.steps, witness.evaluations) == (0, [])


@pytest.mark.parametrize(("every", "seconds"), [(35, 20), (19, 10), (7, 1)])
def test_a_validation_that_uses_the_time_up_is_the_last_one(config_of, monkeypatch, every, seconds):
    """No step, and no second validation, comes after it."""
    run, clock = timed(config_of, 1, f"train.eval_every_steps={every}")
    evaluate = loop.evaluate

    def slowly(*arguments, **keywords):
        clock.now += seconds
        return evaluate(*arguments, **keywords)

    monkeypatch.setattr(loop, "evaluate", slowly)
    assert fit(run.training, clock) is Ending.complete
    validated = [step for step, *_ in clock.evaluations]
    assert validated[-1] == run.training.progress.step == run.training.steps == clock.checkpoints[-1][0]
    assert min(later - earlier for earlier, later in zip([0, *validated], validated, strict=False)) > 1
    assert clock.now - 100 <= 60 + (seconds if len(validated) == 1 else 1)
    assert sum(values["train/loss"] is not None for _, values in clock.logs) == clock.steps
