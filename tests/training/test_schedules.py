"""Learning rates at the steps that matter, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner.errors import ConfigError
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


@given(st.integers(2, 300), st.floats(0.1, 3), st.floats(0, 1))
def test_polynomial_falls_from_one_to_its_end_by_its_power(steps, power, end):
    schedule = cfg.Polynomial(power=power, end_factor=end, warmup_epochs=0)
    left = 1 - np.arange(steps) / (steps - 1)
    found = [factor(schedule, step, steps, 10) for step in range(steps)]
    np.testing.assert_allclose(found, end + (1 - end) * left**power, atol=1e-12)


def test_polynomial_warms_up():
    schedule = cfg.Polynomial(warmup_epochs=2, start_factor=0.0, end_factor=0.5)
    assert [factor(schedule, step, 21, 5) for step in (0, 5, 10, 15, 20)] == [0.0, 0.5, 1.0, 0.75, 0.5]


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([1.0, 1.5, 2.0]), st.floats(0, 0.5))
def test_cosine_restarts_are_one_cosine_after_another(length, growth, end):
    schedule = cfg.CosineRestarts(cycle_epochs=length / 10, cycle_factor=growth, end_factor=end)
    lengths = [round(length * growth**number) for number in range(4)]
    expected = [factor(cfg.Cosine(end_factor=end), step, one, 1) for one in lengths for step in range(one)]
    assert [factor(schedule, step, 10**6, 10) for step in range(sum(lengths))] == pytest.approx(expected, abs=1e-12)


@given(st.integers(2, 400), st.floats(0, 0.9))
def test_one_cycle_rises_by_half_a_cosine_and_falls_by_another(steps, rise):
    schedule = cfg.OneCycle(rise=rise, start_factor=0.2, end_factor=0.05)
    top = round(rise * (steps - 1))
    found = [factor(schedule, step, steps, 7) for step in range(steps)]
    assert found[top] == 1.0
    assert found[0] == (0.2 if top else 1.0)
    assert found[-1] == pytest.approx(0.05 if top < steps - 1 else 1.0)
    assert found == sorted(found[:top]) + sorted(found[top:], reverse=True)
    if top % 2 == 0 and top:
        assert found[top // 2] == pytest.approx(0.6)


def by_waiting(scores, patience, min_delta):
    """Reductions counted as a loop beside training would: from one validation to the next."""
    best, bad, reductions = None, 0, 0
    for score in scores:
        if not math.isnan(score) and (best is None or score - best > min_delta):
            best, bad = score, 0
        else:
            bad += 1
        if bad >= patience:
            bad, reductions = 0, reductions + 1
    return reductions


@given(st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0, math.nan]), max_size=30), st.integers(1, 4))
def test_plateau_reduces_whenever_validations_in_a_row_were_no_better(scores, patience):
    schedule = cfg.Plateau(gamma=0.5, patience=patience, min_delta=0.25, min_factor=0.01)
    expected = max(0.01, 0.5 ** by_waiting(scores, patience, 0.25))
    assert factor(schedule, 5, 10, 5, scores) == expected


@given(st.integers(0, 5000), st.integers(1, 200))
def test_a_warm_up_that_was_not_chosen_takes_five_epochs_or_a_fifth_of_the_run(steps, per_epoch):
    found = warmup_steps(None, steps, per_epoch)
    assert found == min(5 * per_epoch, round(steps / 5))
    assert found < max(1, steps)
    for schedule in (cfg.CosineWarmup(), cfg.ExponentialWarmup(), cfg.Polynomial()):
        assert math.isfinite(factor(schedule, 0, steps, per_epoch))
        assert factor(schedule, found, steps, per_epoch) == 1.0


def test_constant_stays():
    assert {factor(cfg.Constant(), step, 10, 5) for step in range(10)} == {1.0}


def test_a_schedule_of_the_user_is_called():
    schedule = cfg.CustomSchedule(target="tests.samples:halving")
    assert factor(schedule, 5, 10, 5) == 0.5**0.5


@pytest.mark.parametrize(
    "schedule",
    [
        cfg.Constant(), cfg.Cosine(), cfg.CosineWarmup(), cfg.Piecewise(), cfg.ExponentialWarmup(), cfg.Polynomial(),
        cfg.CosineRestarts(), cfg.OneCycle(), cfg.Plateau(),
    ],
)  # fmt: skip
def test_a_run_of_one_step_has_a_learning_rate(schedule):
    assert math.isfinite(factor(schedule, 0, 1, 1))
    assert factor(schedule, 0, 1, 1) > 0


def custom(target, **kwargs):
    return cfg.CustomSchedule(target=f"tests.samples:{target}", kwargs=kwargs)


@pytest.mark.parametrize(
    "schedule", [custom("polynomial"), custom("listed_rates", rates=[1.0, 0.5, 0.1]), cfg.Cosine()], ids=str
)
def test_the_step_after_the_last_one_has_the_rate_of_the_last(schedule):
    # The optimizer asks for it.
    assert factor(schedule, 3, 3, 2) == factor(schedule, 2, 3, 2)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "returned nan at step=0, steps=3, steps_per_epoch=2: the factor must be finite and not negative"),
        (math.inf, "must be finite"),
        (-1.0, "returned -1 at step=0"),
        ("fast", "returned a str, not a number"),
        (None, "returned None, not a number"),
    ],
)
def test_a_factor_that_is_no_factor_is_refused_by_name(value, said):
    with pytest.raises(ConfigError, match=f"^schedule.target=tests.samples:listed_rates {said}|{said}"):
        factor(custom("listed_rates", rates=[value]), 0, 3, 2)


def test_a_schedule_that_raises_is_named_with_what_it_was_given():
    with pytest.raises(ConfigError, match=r"raised IndexError: .* It was given step=2, steps=3, steps_per_epoch=2"):
        factor(custom("listed_rates", rates=[1.0]), 2, 3, 2)
