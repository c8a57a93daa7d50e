"""Schema of `deploy`: what a run ends in."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from .fields import bounded


class Format(Enum):
    """Files a network can be exported to."""

    onnx = "onnx"
    onnx_fp16 = "onnx_fp16"
    paddle = "paddle"
    safetensors = "safetensors"


class Preprocess(Enum):
    """Where pictures are prepared for a network."""

    outside = "outside"
    inside = "inside"


@dataclass
class Deploy:
    """What the end of a run makes of its best weights."""

    formats: list[Format] = field(default_factory=lambda: [Format.onnx])
    """Files to export to; none: []."""
    preprocess: Preprocess = Preprocess.outside
    """`inside`: one more ONNX file, `model.pictures.onnx`, takes pictures of any size, uint8 [N, height, width, 3] in
    RGB, and gives probabilities; it holds the network of the recommended ONNX file."""
    network: str = "student"
    """Which network is exported."""
    bench_s: float = bounded(0.3, min=0)
    """Seconds that every exported file is measured for; 0: not at all."""
    threads: int = bounded(1, min=1)
    """CPU threads of that measurement."""
    unknown_accuracy: Optional[float] = bounded(None, above=0, max=1)
    """Accuracy that predictions should have, such as 0.99: the least confident ones are `unknown`, so many that of the
    validation images the others reach it. None: there is always an answer."""
    agreement: float = bounded(0.99, min=0, max=1)
    """Part of the test images for which a file of a quantized network should have the trained network's class: below it
    there is a note, and files above it are recommended first."""
