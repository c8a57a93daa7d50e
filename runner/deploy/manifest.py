"""What stands in an export folder: `model.json` beside the files. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import files, stored, terminal
from ..errors import CheckpointError, Damaged
from ..images import MAX_PIXELS, RESIZES, Preparation
from . import preprocessing
from .quantization import QUANTIZATION

#: Engines; the first two read the same files.
ONNXRUNTIME, OPENVINO, PADDLE = "onnxruntime", "openvino", "paddle"
#: In a run directory, and in that folder.
EXPORT, MANIFEST = "export", "model.json"
#: All that an export consists of, relative to its folder.
FILES = (
    MANIFEST, QUANTIZATION, "model.onnx", "model.int8.onnx", "model.fp16.onnx", "model.pictures.onnx",
    "model.safetensors", "paddle/model.json", "paddle/model.pdiparams",
)  # fmt: skip

#: What `model.json` says of pictures in words.
STEPS = "preprocessing"

#: Side of an image in pixels that no network here is given.
LARGEST = 1 << 14


@dataclass
class ExportedFile:
    """One network in one format and one engine: a file that two engines compute is listed twice.

    Paddle's has its parameters beside it, under the same name with `.pdiparams`.
    """

    path: str
    """Relative to the folder."""
    format: str
    """`onnx`, `paddle` or `safetensors`."""
    precision: str
    """`float32`, `float16` or `int8`."""
    bytes: int
    """On disk, all files of it together."""
    engine: str | None = None
    """What computes it: `onnxruntime`, `openvino` or `paddle`; safetensors are weights alone."""
    agreement: float | None = None
    """Part of the test images for which its top-1 class is that of the trained network; of many labels, part of all
    of them that it decides as the trained network does."""
    top1: float | None = None
    """Part of the test images for which its top-1 class is the right one; None where images have many labels."""
    hamming_loss: float | None = None
    """Then the part of all labels that it decides wrongly."""
    max_difference: float | None = None
    """Largest difference of a logit from the trained network's."""

    @property
    def paths(self) -> list[str]:
        """All it consists of, relative to the folder."""
        return [self.path, str(Path(self.path).with_suffix(".pdiparams"))] if self.format == "paddle" else [self.path]


@dataclass
class Manifest:
    """A network that was exported, and what its files have in common."""

    network: str
    """Its name in the run: `student`."""
    model: str
    """Architecture."""
    classes: list[str]
    """Names of the classes, in the order of the logits."""
    image_size: list[int]
    """[height, width] in pixels of what the network is given."""
    mean: list[float]
    """Of each channel, of values in 0..1."""
    std: list[float]
    """Of each channel, of values in 0..1."""
    compression: str
    """The run's choice: `none`, `qat`, …"""
    params: int
    """Parameters."""
    macs: int
    """Multiply-accumulate operations for one image."""
    files: list[ExportedFile] = field(default_factory=list)
    """What the network was exported to."""
    recommended: str | None = None
    """Path of the file to deploy; None where no file has an engine."""
    recommended_engine: str | None = None
    """The engine to deploy it in; None: of the first entry with that path, as before there were two."""
    channels: int = 3
    """What the network is given: 3 (RGB), 1 (grey), or the channels of arrays."""
    resize: str = "crop"
    """What becomes of a picture of another shape: `crop`, `pad` or `stretch`; `runner/images.py` does it."""
    crop_ratio: float = 1.0
    """Part of the largest possible crop's sides that is taken."""
    background: list[int] = field(default_factory=lambda: [255, 255, 255])
    """RGB under what is transparent and around what is padded."""
    labels: str = "one"
    """`one`: each image is of one class; `many`: of any number of them."""
    activation: str = "softmax"
    """What makes probabilities of the logits: `softmax`, or `sigmoid` where an image has many labels."""
    thresholds: list[float] = field(default_factory=list)
    """Then the probability of each class from which on an image has it, in the order of the classes."""
    max_pixels: int = MAX_PIXELS
    """Pictures with more are refused."""
    layout: str = "NCHW"
    """Of what the network is given: float32 (x / 255 - mean) / std."""
    input: str = "images"
    """Name of the input."""
    output: str = "logits"
    """Name of the output."""
    temperature: float | None = None
    """Probabilities are softmax(logits / temperature), to tell how often they are right; None: softmax(logits)."""
    unknown_below: float | None = None
    """Probability of the most probable class below which a picture is of none of them; None: it never is."""

    @property
    def preparation(self) -> Preparation:
        """How a picture becomes the bytes that are normalised."""
        height, width = self.image_size
        red, green, blue = self.background
        return Preparation(
            height, width, self.channels, self.resize, self.crop_ratio, (red, green, blue), self.max_pixels
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of what the network is given."""
        height, width = self.image_size
        return self.channels, height, width

    def is_recommended(self, file: ExportedFile) -> bool:
        """Whether this is the file to deploy, in its engine."""
        engines = (other.engine for other in self.files if other.path == file.path)
        return file.path == self.recommended and file.engine == (self.recommended_engine or next(engines, None))

    @property
    def runnable(self) -> list[ExportedFile]:
        """Every file in every engine that reads it, also in one that it was not compared in."""
        files = [file for file in self.files if file.engine]
        listed = {(file.path, file.engine) for file in files}
        return files + [
            replace(file, engine=OPENVINO, agreement=None, top1=None, hamming_loss=None, max_difference=None)
            for file in files
            if file.engine == ONNXRUNTIME and (file.path, OPENVINO) not in listed
        ]

    @property
    def reading(self) -> dict[str, Any]:
        """How the logits of its files are read, which ONNX files say too."""
        keys = ("classes", "labels", "activation", "temperature", "unknown_below", "thresholds")
        return {key: getattr(self, key) for key in keys}

    def of_engine(self, engine: str) -> ExportedFile:
        """The file to deploy in an engine: the recommended one, else the first. Errors: CheckpointError."""
        files = [file for file in self.runnable if file.engine == engine]
        if not files:
            have = ", ".join(sorted({file.engine for file in self.files if file.engine})) or "none"
            raise CheckpointError(
                f"The export has no file for {engine}; it has some for: {have}. Export again with the format of that "
                f"engine: {terminal.command('export', 'RUN', '--format', 'onnx,paddle')}"
            )
        return next((file for file in files if file.path == self.recommended), files[0])

    def file(self, path: str | None = None) -> ExportedFile:
        """The file of that path, by default the recommended one. Errors: CheckpointError where there is none."""
        for file in self.files:
            if file.path == path or (path is None and self.is_recommended(file)):
                return file
        have = ", ".join(file.path for file in self.files if file.engine) or "none"
        raise CheckpointError(
            f"The export has no file '{path}'. Files with an engine: {have}"
            if path
            else f"The export recommends no file to deploy. Files with an engine: {have}. Name one, or export again: "
            "python -m runner export RUN"
        )


def command(run: Path) -> str:
    """What exports a run that is not."""
    return terminal.command("export", terminal.place(run))


def read(folder: Path) -> Manifest:
    """The description of an export folder. Errors: CheckpointError where it is missing or damaged."""
    remedy = f"Write it: {command(folder.parent) if folder.name == EXPORT else terminal.command('export', 'RUN')}"
    values = stored.read_json(folder / MANIFEST, dict[str, Any], remedy)
    if values is None:
        raise CheckpointError(f"{folder} is not an export: it has no {MANIFEST}. {remedy}")
    # For people: what it says is in the numbers.
    values.pop(STEPS, None)
    if isinstance(values.get("image_size"), int):
        # As before version 0.2: a square, of which `resize` tells in words.
        values |= {"image_size": [values["image_size"]] * 2, "resize": "crop"}
    try:
        manifest: Manifest = stored.typed(values, Manifest)
    except (ValueError, TypeError) as error:
        raise Damaged(f"{folder / MANIFEST} is damaged: {error}. {remedy}") from error
    for file in manifest.files:
        if not set(file.paths) <= set(FILES):
            raise Damaged(f"{folder / MANIFEST} is damaged: no export has a file {file.path!r}. {remedy}")
    if (
        len(manifest.image_size) != 2
        or not all(0 < side <= LARGEST for side in manifest.image_size)
        or not len(manifest.mean) == len(manifest.std) == manifest.channels
        or not all(manifest.std)
        or manifest.resize not in RESIZES
        or not 0 < manifest.crop_ratio <= 1
        or len(manifest.background) != 3
    ):
        raise Damaged(f"{folder / MANIFEST} is damaged: no image can be prepared as it says. {remedy}")
    if manifest.temperature is not None and not 0 < manifest.temperature < math.inf:
        raise Damaged(f"{folder / MANIFEST} is damaged: temperature is not above 0. {remedy}")
    if manifest.unknown_below is not None and not 0 <= manifest.unknown_below <= 1:
        raise Damaged(f"{folder / MANIFEST} is damaged: unknown_below is not a probability. {remedy}")
    many = manifest.labels == "many"
    if (manifest.labels, manifest.activation) not in (("one", "softmax"), ("many", "sigmoid")) or (
        len(manifest.thresholds) != (len(manifest.classes) if many else 0)
        or not all(0 <= threshold <= 1 for threshold in manifest.thresholds)
    ):
        raise Damaged(f"{folder / MANIFEST} is damaged: no label can be decided as it says. {remedy}")
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Describe an export folder. Errors: OSError."""
    described = dataclasses.asdict(manifest)
    described[STEPS] = preprocessing.steps(manifest.preparation, manifest.mean, manifest.std)
    files.write_json(folder / MANIFEST, described)
