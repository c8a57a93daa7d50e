"""What the pictures of compression are made of."""

from __future__ import annotations

import numpy as np
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import plots, qat


def test_the_noise_of_rounding_is_that_of_its_levels():
    """Uniform values have variance 1/3, the error of a step s has s²/12."""
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    for largest in (7, 127):
        rounded = np.round(values * largest) / largest
        assert plots.decibels(values, rounded) == pytest.approx(20 * np.log10(2 * largest), abs=0.1)


def test_what_did_not_change_has_no_noise():
    assert plots.decibels(np.ones(3), np.ones(3)) == float("inf")


def test_a_quantized_network_shows_its_noisiest_layers_and_a_float_one_none():
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(10)))
    assert plots.rounding(network) is None
    qat.quantize(network, cfg.TrainedQuantization())
    drawn = [panel.get_title() for panel in plots.rounding(network).axes if panel.get_title()]
    assert len(drawn) == plots.SHOWN
    noise = [float(title.splitlines()[1].split()[0]) for title in drawn]
    assert noise == sorted(noise)
