"""The ratio of a signal to what rounding adds to it."""

from __future__ import annotations

import numpy as np
import pytest

from runner.compression import snr


def decibels(before, after):
    return snr.decibels(*snr.powers(before, after))


def test_a_change_of_a_tenth_is_at_twenty_decibels():
    assert decibels(np.ones(10), 0.9 * np.ones(10)) == pytest.approx(20)


def test_the_noise_of_rounding_is_that_of_its_levels():
    """Uniform values have variance 1/3, the error of a step s has s²/12."""
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    for largest in (7, 127):
        rounded = np.round(values * largest) / largest
        assert decibels(values, rounded) == pytest.approx(20 * np.log10(2 * largest), abs=0.1)


def test_what_did_not_change_has_no_noise_and_what_was_zero_no_signal():
    assert decibels(np.ones(3), np.ones(3)) == np.inf
    assert decibels(np.zeros(3), np.ones(3)) == -np.inf
    assert decibels(np.zeros(3), np.zeros(3)) == np.inf
