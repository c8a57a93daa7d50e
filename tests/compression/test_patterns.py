"""Patterns of layers: of several networks each has to match in one."""

from __future__ import annotations

import pytest
from paddle import nn

from runner import compression
from runner import config as cfg
from runner.errors import ConfigError

PEERS = [
    nn.Sequential(("first", nn.Conv2D(3, 8, 3)), ("out", nn.Linear(8, 2))),
    nn.Sequential(("stem", nn.Conv2D(3, 8, 3)), ("out", nn.Linear(8, 2))),
]


def quantized(**keys):
    return cfg.Qat(quantize=cfg.TrainedQuantization(**keys))


def pruned(**keys):
    return cfg.Fpgm(prune=cfg.Pruning(**keys))


@pytest.mark.parametrize(
    "settings",
    [quantized(skip=["stem"]), quantized(layer_bits={"first": 4, "out": 3}), pruned(skip=["st*"]),
     pruned(ratios={"first": 0.5}), cfg.NoCompression()],
)  # fmt: skip
def test_a_pattern_may_be_of_one_of_several_networks(settings):
    compression.check_patterns(PEERS, settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (quantized(skip=["fist"]), "compression.quantize.skip: 'fist' matches no layer. Did you mean 'first'"),
        (quantized(layer_bits={"conv": 4}), "compression.quantize.layer_bits: 'conv' matches no layer"),
        (
            quantized(skip=["out"], layer_bits={"out": 4}),
            "compression.quantize.layer_bits: 'out' matches only layers that compression.quantize.skip leaves in float",
        ),
        (pruned(skip=["conv99.*"]), "compression.prune.skip: 'conv99.*' matches no layer"),
        (pruned(ratios={"out": 0.5}), "compression.prune.ratios: 'out' matches no layer"),
    ],
)
def test_a_pattern_that_matches_nothing_is_named_with_the_layers_there_are(settings, reason):
    with pytest.raises(ConfigError) as error:
        compression.check_patterns(PEERS, settings)
    assert str(error.value).startswith(reason)
