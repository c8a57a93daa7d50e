"""Compresses networks: fewer filters (`pruning`), integers by training (`qat`) or by calibration (`ptq`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paddle import nn

from .. import config as cfg
from ..errors import CheckpointError
from . import bits, lsq, pruning, ptq, qat, ranges, shapes, slim, statistics

__all__ = ["bits", "is_quantized", "lsq", "pruning", "ptq", "qat", "ranges", "rebuild", "shapes", "slim", "statistics"]


def is_quantized(names: Iterable[str]) -> bool:
    """Whether a state with these names belongs to a quantized network."""
    return any(map(slim.is_quantization, names))


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
