"""What must hold between the fields of `compression.quantize`."""

from __future__ import annotations

from collections.abc import Iterator

from ..compression import Quantization


def problems(quantize: Quantization) -> Iterator[str]:
    """What is wrong with the settings of quantization, each with its remedy."""
    for pattern, bits in quantize.layer_bits.items():
        if not 2 <= bits <= 8:
            yield f"compression.quantize.layer_bits.{pattern}={bits}: must be at least 2 and at most 8."
    average = quantize.average_weight_bits
    if average is not None and average > quantize.weight_bits:
        yield (
            f"compression.quantize.average_weight_bits={average:g}: no layer has more than "
            f"compression.quantize.weight_bits={quantize.weight_bits}. Raise that, or lower the average."
        )
