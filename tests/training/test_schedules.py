"""Learning rates at the steps that matter, exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import config as cfg
from runner.training.schedules import factor, warmup_steps


def test_cosine_starts_at_one_is_half_way_in_the_middle_and_ends_exactly_at_its_end():
    schedule = cfg.Cosine(end_factor=0.1)
    assert factor(schedule, 0, 101, 10) == 1.0
    assert factor(schedule, 50, 101, 10) == pytest.approx(0.55, abs=1e-15)
    assert factor(schedule, 100, 101, 10) == 0.1


@given(st.integers(3, 500), st.integers(1, 50), st.floats(0, 1))
def test_cosine_warmup_rises_to_one_and_ends_exactly_at_its_end(steps, steps_per_epoch, end):
    schedule = cfg.CosineWarmup(end_factor=end, warmup_epochs=1.0, start_factor=0.25)
    warmup = warmup_steps(1.0, steps, steps_per_epoch)
    assert factor(schedule, 0, steps, steps_per_epoch) == 0.25
    assert factor(schedule, warmup, steps, steps_per_epoch) == 1.0
    if warmup < steps - 1:
        assert factor(schedule, steps - 1, steps, steps_per_epoch) == pytest.approx(end, abs=1e-15)


def test_warm_up_is_a_straight_line():
    schedule = cfg.CosineWarmup(warmup_epochs=2, start_factor=0.0)
    assert [factor(schedule, step, 100, 5) for step in range(11)] == pytest.approx([step / 10 for step in range(11)])


def test_exponential_warmup_decays_once_in_every_decay_epochs():
    schedule = cfg.ExponentialWarmup(warmup_epochs=1, start_factor=0.0, decay_epochs=2, gamma=0.5)
    values = [factor(schedule, step, 100, 10) for step in (0, 5, 10, 29, 30, 49, 50, 99)]
    assert values == [0.0, 0.5, 1.0, 1.0, 0.5, 0.5, 0.25, 0.5**4]


def test_piecewise_changes_at_its_boundaries():
    schedule = cfg.Piecewise(boundaries=[1, 3], factors=[1.0, 0.1, 0.01])
    assert [factor(schedule, step, 50, 10) for step in (0, 9, 10, 29, 30, 49)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]


def test_constant_stays():
    assert {factor(cfg.Constant(), step, 10, 5) for step in range(10)} == {1.0}


def test_a_schedule_of_the_user_is_called():
    schedule = cfg.CustomSchedule(target="tests.samples:halving")
    assert factor(schedule, 10, 10, 5) == 0.5


@pytest.mark.parametrize(
    "schedule", [cfg.Constant(), cfg.Cosine(), cfg.CosineWarmup(), cfg.Piecewise(), cfg.ExponentialWarmup()]
)
def test_a_run_of_one_step_has_a_learning_rate(schedule):
    assert math.isfinite(factor(schedule, 0, 1, 1))
    assert factor(schedule, 0, 1, 1) > 0
