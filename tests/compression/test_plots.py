"""What the pictures of compression are made of."""

from __future__ import annotations

from paddle import nn

from runner import config as cfg
from runner.compression import plots, qat


def test_a_quantized_network_shows_its_noisiest_layers_and_a_float_one_none():
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(10)))
    assert plots.rounding(network) is None
    qat.quantize(network, cfg.TrainedQuantization())
    drawn = [panel.get_title() for panel in plots.rounding(network).axes if panel.get_title()]
    assert len(drawn) == plots.SHOWN
    noise = [float(title.splitlines()[1].split()[0]) for title in drawn]
    assert noise == sorted(noise)
