"""Quantization of each layer of an exported network: reading and writing `quantization.json`.

Imports neither Paddle nor MLflow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from .. import files, stored
from ..errors import Damaged

#: Its name in the export folder.
QUANTIZATION = "quantization.json"


@dataclass
class QuantizedLayer:
    """One quantized layer.

    A signal-to-quantization-noise ratio is 10·log₁₀(Σy² / Σ(y - ŷ)²) in dB, of float values y and quantized ones ŷ
    (Nagel et al., A White Paper on Neural Network Quantization, 2021): 6 dB are one bit. None: no noise.
    """

    name: str
    """In the network: `conv1.conv`."""
    kind: str
    """`Conv2D` or `Linear`."""
    weights: int
    """Number of its weights."""
    weight_bits: int
    """Bits of a weight: its integers are -Q to Q with Q = 2^(bits - 1) - 1."""
    activation_bits: int
    """Bits of an input."""
    weight_range: list[float]
    """[smallest, largest] magnitude that Q stands for, over the output channels."""
    activation_range: float
    """The magnitude of an input that its largest integer stands for."""
    weight_snr_db: float | None
    """Ratio of its weight."""
    output_snr_db: float | None
    """Ratio of its output given the float network's input: the noise of this layer alone."""
    accumulated_snr_db: float | None
    """Ratio of its output after quantized layers: the noise of all layers up to it."""


@dataclass
class Quantization:
    """The contents of `quantization.json`."""

    network: str
    """Its name in the run: `student`."""
    images: int
    """Number of training images that the outputs were measured on."""
    layers: list[QuantizedLayer] = field(default_factory=list)
    """In the order of the network."""

    @property
    def weight_bits(self) -> float:
        """Bits of a weight, averaged over all weights."""
        return self._bits / max(1, sum(layer.weights for layer in self.layers))

    @property
    def packed_bytes(self) -> int:
        """Size of tightly packed weights. A file uses a byte for each: engines have no narrower integers."""
        return -(-self._bits // 8)

    @property
    def _bits(self) -> int:
        return sum(layer.weights * layer.weight_bits for layer in self.layers)

    @property
    def worst_first(self) -> list[QuantizedLayer]:
        """Layers sorted by their own noise, the noisiest first."""
        lossy = [layer for layer in self.layers if layer.output_snr_db is not None]
        return sorted(lossy, key=lambda layer: (layer.output_snr_db, layer.name))


def write(folder: Path, quantization: Quantization) -> None:
    """Write the quantization of an export folder. Errors: OSError."""
    files.write_json(folder / QUANTIZATION, dataclasses.asdict(quantization))


def read(folder: Path) -> Quantization | None:
    """Read the quantization of an export folder; None if it has none, or is older. Errors: Damaged."""
    quantization: Quantization | None = stored.read_json(folder / QUANTIZATION, Quantization)
    for layer in quantization.layers if quantization else []:
        if len(layer.weight_range) != 2 or layer.weights < 1 or not 2 <= layer.weight_bits <= 8:
            raise Damaged(
                f"{folder / QUANTIZATION} is damaged: its entry for layer {layer.name} is invalid. {stored.REMEDY}"
            )
    return quantization
