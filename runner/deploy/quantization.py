"""What integers did to each layer of an exported network: `quantization.json`, written and read here alone.

Imports neither Paddle nor MLflow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from .. import files, stored
from ..errors import Damaged

#: In the export folder.
QUANTIZATION = "quantization.json"


@dataclass
class QuantizedLayer:
    """One layer that computes with integers.

    A ratio of signal to quantization noise is 10·log₁₀(Σy² / Σ(y - ŷ)²) in dB, of float values y and those of
    integers ŷ (Nagel et al., A White Paper on Neural Network Quantization, 2021): 6 dB are one bit. None: no noise.
    """

    name: str
    """In the network: `conv1.conv`."""
    kind: str
    """`Conv2D` or `Linear`."""
    weights: int
    """Numbers in its weight."""
    weight_bits: int
    """Bits of a weight: its integers are -Q to Q with Q = 2^(bits - 1) - 1."""
    activation_bits: int
    """Bits of an input."""
    weight_range: list[float]
    """[smallest, largest] magnitude that Q stands for, over the output channels."""
    activation_range: float
    """The magnitude of an input that its largest integer stands for."""
    weight_snr_db: float | None
    """Of its weight."""
    output_snr_db: float | None
    """Of its output for the float network's input: what this layer loses by itself."""
    accumulated_snr_db: float | None
    """Of its output behind quantized layers: what all layers up to it lose together."""


@dataclass
class Quantization:
    """`quantization.json`."""

    network: str
    """Its name in the run: `student`."""
    images: int
    """Training images that the outputs are of."""
    layers: list[QuantizedLayer] = field(default_factory=list)
    """In the order of the network."""

    @property
    def weight_bits(self) -> float:
        """Bits of a weight, as the mean over all of them."""
        return self._bits / max(1, sum(layer.weights for layer in self.layers))

    @property
    def packed_bytes(self) -> int:
        """What the weights take with no bit to spare. A file has a byte for each: engines know no narrower ones."""
        return -(-self._bits // 8)

    @property
    def _bits(self) -> int:
        return sum(layer.weights * layer.weight_bits for layer in self.layers)

    @property
    def worst_first(self) -> list[QuantizedLayer]:
        """The layers that lose most by themselves first."""
        lossy = [layer for layer in self.layers if layer.output_snr_db is not None]
        return sorted(lossy, key=lambda layer: (layer.output_snr_db, layer.name))


def write(folder: Path, quantization: Quantization) -> None:
    """Describe the integers of an export folder. Errors: OSError."""
    files.write_json(folder / QUANTIZATION, dataclasses.asdict(quantization))


def read(folder: Path) -> Quantization | None:
    """What an export folder says of its integers; None where it has none, or is older. Errors: Damaged."""
    quantization: Quantization | None = stored.read_json(folder / QUANTIZATION, Quantization)
    for layer in quantization.layers if quantization else []:
        if len(layer.weight_range) != 2 or layer.weights < 1 or not 2 <= layer.weight_bits <= 8:
            raise Damaged(
                f"{folder / QUANTIZATION} is damaged: its entry for layer {layer.name} is invalid. {stored.REMEDY}"
            )
    return quantization
