"""Compresses networks: fewer filters (`pruning`), integers by training (`qat`) or by calibration (`ptq`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paddle import nn

from .. import config as cfg
from ..errors import CheckpointError, ConfigError
from . import bits, lsq, patterns, pruning, ptq, qat, ranges, shapes, slim, statistics

__all__ = [
    "bits",
    "check_patterns",
    "is_quantized",
    "lsq",
    "pruning",
    "ptq",
    "qat",
    "ranges",
    "rebuild",
    "shapes",
    "slim",
    "statistics",
]


def is_quantized(names: Iterable[str]) -> bool:
    """Whether a state with these names belongs to a quantized network."""
    return any(map(slim.is_quantization, names))


def check_patterns(networks: Iterable[nn.Layer], settings: cfg.Compression) -> None:
    """Refuse patterns that match no layer of any of these networks, which may differ. Errors: ConfigError."""
    named: dict[str, tuple[Iterable[str], list[str]]] = {}
    every = list(networks)
    if prune := settings.prune:
        convolutions = [name for network in every for name in shapes.channels(network)]
        named |= {"prune.skip": (prune.skip, convolutions), "prune.ratios": (prune.ratios, convolutions)}
    if quantize := settings.quantize:
        layers = [name for network in every for name in ranges.candidates(network, quantize)]
        rounded = [name for name in layers if not patterns.matches(name, quantize.skip)]
        named |= {"quantize.skip": (quantize.skip, layers), "quantize.layer_bits": (quantize.layer_bits, rounded)}
        for pattern in quantize.layer_bits:
            if patterns.any_of(layers, pattern) and not patterns.any_of(rounded, pattern):
                raise ConfigError(
                    f"compression.quantize.layer_bits: '{pattern}' matches only layers that compression.quantize.skip "
                    "leaves in float. Remove it from one of the two."
                )
    for key, (chosen, names) in named.items():
        patterns.check(f"compression.{key}", chosen, dict.fromkeys(names))


def rebuild(
    network: nn.Layer,
    settings: cfg.Compression,
    stored: Mapping[str, Sequence[int]],
    pruned: bool,
    origin: str,
) -> None:
    """Give a plain network the structure of a stored one, in place: its channels and its fake quantization.

    `stored` maps names of the stored state to shapes. Errors: CheckpointError if it is of another network.
    """
    plain = {name: shape for name, shape in stored.items() if not slim.is_quantization(name)}
    if pruned:
        shapes.shrink(network, plain, origin)
    if len(plain) < len(stored):
        if settings.quantize is None:
            raise CheckpointError(
                f"{origin} is of a quantized network, but its config has compression={settings.kind}."
            )
        qat.quantize(network, settings.quantize)
