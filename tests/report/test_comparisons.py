"""What is called a real difference, tried on sweeps of which it is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import noise
from runner.report import comparisons


def rejected_by_chance(alarms):
    """Whether so many alarms say that they come in more than 5 % of sweeps, and not by chance of the simulation."""
    return stats.binomtest(alarms, noise.SWEEPS, 0.05, alternative="greater").pvalue < 0.01


def test_equal_configurations_are_seldom_called_different():
    generator = np.random.default_rng(0)
    alarms = noise.false_alarms(generator)
    assert not rejected_by_chance(alarms)
    # Uncorrected, the largest of 28 differences would pass for real in most of them.
    assert alarms <= 20


def test_one_configuration_that_is_noisier_than_the_others_is_no_false_alarm():
    generator = np.random.default_rng(1)
    deviations = [5.0] + [1.0] * (noise.CONFIGURATIONS - 1)
    alarms = noise.false_alarms(generator, deviations)
    assert not rejected_by_chance(alarms)


def test_configurations_that_are_two_deviations_of_the_paired_differences_worse_are_mostly_found():
    generator = np.random.default_rng(2)
    # The difference of two results with deviation 1 has deviation √2.
    share, alarms = noise.found(generator, 2 * np.sqrt(2))
    assert share > 0.75
    assert not rejected_by_chance(alarms)


def test_of_two_configurations_it_is_the_paired_t_test():
    generator = np.random.default_rng(3)
    one, other = generator.normal(1, 1, 6), generator.normal(0, 1, 6)
    scores = {"one": dict(enumerate(one)), "other": dict(enumerate(other))}
    difference = comparisons.behind(scores)["other"]
    interval = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert [difference.low, difference.high] == pytest.approx([interval.low, interval.high], rel=1e-6)
    assert difference.mean == pytest.approx(np.mean(one - other))


def test_a_seed_that_is_missing_does_not_make_a_configuration_the_best():
    hard = {"a": {1: 0.9, 2: 0.9, 3: 0.5}, "b": {1: 0.89, 2: 0.89}}
    assert comparisons.best(hard) == "a"
    assert comparisons.behind(hard)["b"].count == 2


def test_equal_differences_are_real_if_they_are_large_beside_the_steps_of_the_results():
    scores = {"a": {1: 0.9, 2: 0.8, 3: 0.85}, "b": {1: 0.6, 2: 0.5, 3: 0.55}, "same": {1: 0.9, 2: 0.8, 3: 0.85}}
    behind = comparisons.behind(scores)
    assert behind["b"].is_real
    assert not behind["same"].is_real
    # Of eight images one more was right with either seed.
    near = comparisons.behind({"a": {1: 3 / 8, 2: 2 / 8}, "b": {1: 2 / 8, 2: 1 / 8}})
    assert not near["b"].is_real


@pytest.mark.parametrize("case", noise.COUNTS)
def test_metrics_that_count_a_few_images_give_no_more_false_alarms(case):
    assert not rejected_by_chance(noise.false_alarms_of_counts(np.random.default_rng(4), *case))


def test_with_one_seed_or_none_in_common_nothing_is_compared():
    assert comparisons.behind({"a": {1: 0.9}, "b": {1: 0.8}}) == {"b": None}
    assert comparisons.behind({"a": {1: 0.9, 2: 0.91}, "b": {3: 0.8, 4: 0.81}}) == {"b": None}
