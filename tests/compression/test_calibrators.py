"""Ranges of activations that calibration chooses from the magnitudes it saw."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import ranges
from runner.compression.calibrators import calibrator, divergence
from runner.config import Algorithm

CLIPPING = (Algorithm.hist, Algorithm.kl, Algorithm.mse)


def range_of(algorithm, *batches, bits=8, percentile=0.9999):
    chosen = calibrator(algorithm, bits, percentile)
    for values in batches:
        chosen.observe(paddle.to_tensor(np.asarray(values, np.float32)))
    return chosen.magnitude()


def normal(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("value", [0.5, 0.7, -1.0, 3e38, 1e-45])
def test_an_input_of_one_magnitude_has_it_as_its_range(algorithm, value):
    both = np.array([value, -value] * 50)
    assert range_of(algorithm, both) == pytest.approx(abs(np.float32(value)), rel=0.02)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_an_input_of_zeros_has_no_range(algorithm):
    assert range_of(algorithm, np.zeros(10)) == 0


def test_a_percentile_is_that_of_the_values_to_a_bin():
    values = normal(200_000)
    for percentile in (0.5, 0.9, 0.9999):
        exact = np.quantile(np.abs(values), percentile)
        assert exact <= range_of(Algorithm.hist, values, percentile=percentile) <= exact + 8 / 4096


@pytest.mark.parametrize("algorithm", [Algorithm.hist, Algorithm.kl])
def test_values_that_are_rare_between_zeros_are_within_the_range(algorithm):
    drawn = np.zeros(100_000)
    drawn[:6] = 1
    assert range_of(algorithm, drawn) == 1


@pytest.mark.parametrize("algorithm", CLIPPING)
def test_a_later_batch_may_be_larger_by_any_factor(algorithm):
    tiny, usual = np.full(8, 1e-40), normal(50_000)
    alone = range_of(algorithm, usual)
    # The few tiny values share the first bin.
    assert range_of(algorithm, tiny, usual) == pytest.approx(alone, rel=0.02)
    assert range_of(algorithm, usual, tiny) == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize("algorithm", CLIPPING)
def test_ranges_do_not_depend_on_how_values_are_divided_into_batches(algorithm):
    values = np.sort(np.abs(normal(50_000)))
    assert range_of(algorithm, values) == range_of(algorithm, *np.array_split(values[::-1], 7))


@pytest.mark.parametrize(("bits", "least", "most"), [(8, 4.0, 5.2), (4, 3.0, 4.0), (2, 2.3, 3.3)])
def test_the_least_divergence_clips_the_tails_of_a_distribution(bits, least, most):
    values = normal(2_000_000)
    assert least < range_of(Algorithm.kl, values, bits=bits) < most < np.abs(values).max()


@pytest.mark.parametrize("count", [100, 2_000, 20_000])
def test_the_least_divergence_of_few_values_is_not_that_of_chance(count):
    values = normal(count)
    assert range_of(Algorithm.kl, values) > 0.75 * np.abs(values).max()
    assert range_of(Algorithm.kl, values, bits=4) > 2


def test_a_divergence_counts_what_is_beyond_the_range_at_its_end():
    counts = np.zeros(64)
    counts[[3, 12, 63]] = 50, 49, 1
    assert divergence(counts, 7, 64.0) == 0
    assert divergence(counts, 7, 13.0) == pytest.approx(0.5 * np.log(0.5 * 99 / 50) + 0.5 * np.log(0.5 * 99 / 49))
    # 3.5 and 12.5 are both rounded to 0.
    alike = 0.5 * np.log(50 / 49.5) + 0.49 * np.log(49 / 49.5)
    assert divergence(counts, 1, 64.0) == pytest.approx(alike)
    assert divergence(counts, 127, 13.0) == divergence(counts, 1, 3.0) == np.inf


def test_an_input_of_two_magnitudes_keeps_both():
    assert range_of(Algorithm.kl, np.r_[np.full(990, 0.2), np.full(10, 1.0)]) == 1


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("background", [0.05, 0.31, 1.5])
def test_a_constant_background_does_not_have_the_least_divergence_clip_all_else(background, share, bits):
    count = int(share * 200_000)
    values = np.r_[background + 1e-3 * normal(count, 1), normal(200_000 - count)].astype(np.float32)

    def error(algorithm):
        magnitude = np.full(1, range_of(algorithm, values, bits=bits), np.float32)
        return np.square(values - ranges.rounded(values, magnitude, None, bits)).sum()

    # A bit, and what the centre of a bin says less exactly than its values.
    assert error(Algorithm.kl) < 4.2 * error(Algorithm.mse)


def test_the_least_squared_error_is_found_over_batches_of_any_size():
    values = normal(20_000).astype(np.float32)
    values[-1] = 30.0
    tried = np.linspace(0.5, 30, 400)

    def error(magnitude):
        return np.square(values - ranges.rounded(values, np.full(1, magnitude), None, 4)).sum()

    assert error(range_of(Algorithm.mse, *np.array_split(values, 7), bits=4)) < 1.02 * min(map(error, tried))


def test_the_range_of_a_layer_is_that_of_its_inputs():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    images = [paddle.full([3, 4], 1e-12), paddle.full([3, 4], 0.7)]
    for algorithm in cfg.Algorithm:
        assert ranges.measure(network, ["0"], images, 8, algorithm, 0.9999)["0"] == pytest.approx(0.7, rel=0.03)
