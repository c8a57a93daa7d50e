"""Schema of `deploy`: how the best weights are exported."""

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


#: Formats of files that engines run: one of these files is measured and recommended.
RUN_BY_ENGINES = frozenset({Format.onnx, Format.onnx_fp16, Format.paddle})


class Preprocess(Enum):
    """Where images are preprocessed for a network."""

    outside = "outside"
    inside = "inside"


class Precision(Enum):
    """What an exported file computes in."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@dataclass
class Deploy:
    """How the best weights are exported at the end of a run."""

    formats: list[Format] = field(default_factory=lambda: [Format.onnx])
    """Formats to export to; none: []."""
    preprocess: Preprocess = Preprocess.outside
    """`inside`: one more ONNX file, `model.pictures.onnx`, takes images of any size, uint8 [N, height, width, 3] in
    RGB, and returns probabilities; it contains the network of the recommended ONNX file."""
    network: str = "student"
    """Which network is exported, and is used to predict by default."""
    bench_s: float = bounded(0.3, min=0, max=1e6)
    """Seconds for which every exported file is measured; 0: not at all, and the smallest of those that agree is
    recommended."""
    threads: int = bounded(1, min=1)
    """CPU threads of that measurement."""
    unknown_accuracy: Optional[float] = bounded(None, above=0, max=1)
    """Accuracy that predictions should have, such as 0.99: on validation images the least confident predictions become
    `unknown` until the others reach it. None: there is always an answer."""
    agreement: float = bounded(0.99, min=0, max=1)
    """Fraction of the test images on which the file of a quantized network should predict the trained network's class:
    a file below it gets a note, and files above it are recommended first."""
    recommend: Optional[Precision] = None
    """Precision of the file that is recommended, such as int8; null: any, the fastest here of those that agree."""
