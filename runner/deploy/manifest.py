"""The manifest of an export folder: `model.json` next to the files. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import files, stored, terminal
from ..errors import CheckpointError, Damaged
from ..images import MAX_PIXELS, RESIZES, Preparation
from . import preprocessing
from .quantization import QUANTIZATION

#: What the directory of a run has, `runs.journal.CONFIG`: served models have no runs.
OF_A_RUN = "config.yaml"
#: Engines; the first two read the same files.
ONNXRUNTIME, OPENVINO, PADDLE = "onnxruntime", "openvino", "paddle"
#: Names of the export folder in a run directory, and of the manifest in it.
EXPORT, MANIFEST = "export", "model.json"
#: All files of an export, relative to its folder.
FILES = (
    MANIFEST, QUANTIZATION, "model.onnx", "model.int8.onnx", "model.fp16.onnx", "model.pictures.onnx",
    "model.safetensors", "paddle/model.json", "paddle/model.pdiparams",
)  # fmt: skip

#: The keys of `model.json` that describe preprocessing in words.
STEPS = "preprocessing"

#: Largest side in pixels of a network's input that is accepted.
LARGEST = 1 << 14
#: The smallest normal number of float32, and the largest one.
LEAST, MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass
class ExportedFile:
    """One network in one format and one engine: a file that two engines run is listed twice.

    Paddle's has its parameters in a second file of the same name with `.pdiparams`.
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
    """What runs it: `onnxruntime`, `openvino` or `paddle`; safetensors are weights only."""
    agreement: float | None = None
    """Fraction of the test images on which its top-1 class is that of the trained network; multi-label: fraction of all
    labels that it decides as the trained network does."""
    top1: float | None = None
    """Fraction of the test images on which its top-1 class is correct; None for multi-label images."""
    hamming_loss: float | None = None
    """Multi-label: fraction of all labels that it decides wrongly."""
    max_difference: float | None = None
    """Largest difference of a logit from the trained network's."""
    snr_db: float | None = None
    """Signal-to-noise ratio of its logits ŷ, y being the trained network's: 10 log₁₀ Σy² / Σ(y - ŷ)², in dB, at most
    200."""
    digests: dict[str, str] = field(default_factory=dict)
    """Path of each of its files → `digests.file_digest` of it; empty in exports of earlier versions."""

    @property
    def paths(self) -> list[str]:
        """All its files, relative to the folder."""
        return [self.path, str(Path(self.path).with_suffix(".pdiparams"))] if self.format == "paddle" else [self.path]


@dataclass
class Manifest:
    """An exported network, and what its files have in common."""

    network: str
    """Its name in the run: `student`."""
    model: str
    """Architecture."""
    classes: list[str]
    """Names of the classes, in the order of the logits."""
    image_size: list[int]
    """[height, width] of the network's input in pixels."""
    mean: list[float]
    """Of each channel, for values in 0…1."""
    std: list[float]
    """Of each channel, for values in 0…1."""
    compression: str
    """The run's choice: `none`, `qat`, …"""
    params: int
    """Number of parameters."""
    macs: int
    """Multiply-accumulate operations for one image."""
    files: list[ExportedFile] = field(default_factory=list)
    """The exported files."""
    recommended: str | None = None
    """Path of the file to deploy; None if no file has an engine."""
    recommended_engine: str | None = None
    """The engine to deploy it in; None, in older exports: that of the first entry with that path."""
    channels: int = 3
    """Channels of the network's input: 3 (RGB), 1 (grey), or those of user-defined arrays."""
    resize: str = "crop"
    """How images of another shape are resized: `crop`, `pad` or `stretch`; `runner/images` implements it."""
    crop_ratio: float = 1.0
    """Fraction of the largest possible crop's sides that is taken."""
    background: list[int] = field(default_factory=lambda: [255, 255, 255])
    """RGB under transparent pixels and in padding."""
    labels: str = "one"
    """`one`: each image has one class; `many`: any number of labels."""
    activation: str = "softmax"
    """The activation that turns logits into probabilities: `softmax`, or multi-label `sigmoid`."""
    thresholds: list[float] = field(default_factory=list)
    """Multi-label: the probability of each class from which it is predicted, in the order of the classes."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are refused."""
    layout: str = "NCHW"
    """Layout of the network's input: float32 (x / 255 - mean) / std."""
    input: str = "images"
    """Name of the input."""
    output: str = "logits"
    """Name of the output."""
    not_in_openvino: list[str] = field(default_factory=list)
    """Paths of ONNX files that OpenVINO could not compute."""
    temperature: float | None = None
    """Probabilities are softmax(logits / temperature), which calibrates them; None: softmax(logits)."""
    unknown_below: float | None = None
    """Probability of the most probable class below which an image is `unknown`; None: it never is."""

    @property
    def preparation(self) -> Preparation:
        """The preprocessing of an image up to normalisation."""
        height, width = self.image_size
        red, green, blue = self.background
        return Preparation(
            height, width, self.channels, self.resize, self.crop_ratio, (red, green, blue), self.max_pixels
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the network's input."""
        height, width = self.image_size
        return self.channels, height, width

    def is_recommended(self, file: ExportedFile) -> bool:
        """Whether this is the file to deploy, in its engine."""
        engines = (other.engine for other in self.files if other.path == file.path)
        return file.path == self.recommended and file.engine == (self.recommended_engine or next(engines, None))

    @property
    def runnable(self) -> list[ExportedFile]:
        """Every file in every engine that can read it, including engines it was not compared in."""
        files = [file for file in self.files if file.engine]
        listed = {(file.path, file.engine) for file in files} | {(path, OPENVINO) for path in self.not_in_openvino}
        return files + [
            replace(
                file, engine=OPENVINO, agreement=None, top1=None, hamming_loss=None, max_difference=None, snr_db=None
            )
            for file in files
            if file.engine == ONNXRUNTIME and (file.path, OPENVINO) not in listed
        ]

    @property
    def reading(self) -> dict[str, Any]:
        """How to interpret the logits of its files; ONNX files have this in their metadata."""
        keys = ("classes", "labels", "activation", "temperature", "unknown_below", "thresholds")
        return {key: getattr(self, key) for key in keys}

    def of_engine(self, engine: str, folder: Path = Path(EXPORT)) -> ExportedFile:
        """The file to deploy in an engine: the recommended one, else the first. `folder` is for the message.

        Errors: CheckpointError.
        """
        files = [file for file in self.runnable if file.engine == engine]
        if not files:
            have = ", ".join(sorted({file.engine for file in self.runnable if file.engine})) or "none"
            remedy = f"Export again with the format of that engine: {command(folder, '--format', 'onnx,paddle')}"
            if engine == OPENVINO and self.not_in_openvino:
                remedy = "OpenVINO could not compute the files of this network: name another engine."
            raise CheckpointError(f"{folder} has no file for {engine}; it has some for: {have}. {remedy}")
        return next((file for file in files if file.path == self.recommended), files[0])

    def file(self, path: str | None = None) -> ExportedFile:
        """The file with that path, by default the recommended one. Errors: CheckpointError if there is none."""
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


def command(folder: Path, *options: str) -> str:
    """The command that writes the export of a folder, `RUN/export` or that of another network, `RUN/NETWORK/export`."""
    run, network = folder.parent if folder.name == EXPORT and folder.parent.name else Path("RUN"), []
    if not (run / OF_A_RUN).is_file() and (run.parent / OF_A_RUN).is_file():
        run, network = run.parent, ["--network", run.name]
    return terminal.command("export", terminal.place(run), *network, *options)


def read(folder: Path) -> Manifest:
    """The manifest of an export folder. Errors: CheckpointError if it is missing or damaged."""
    remedy = f"Write it: {command(folder)}"
    values = stored.read_json(folder / MANIFEST, dict[str, Any], remedy)
    if values is None:
        raise CheckpointError(f"{folder} is not an export: it has no {MANIFEST}. {remedy}")
    # Prose for people, redundant to the numbers.
    values.pop(STEPS, None)
    if isinstance(values.get("image_size"), int):
        # Before version 0.2: a square, and `resize` was prose.
        values |= {"image_size": [values["image_size"]] * 2, "resize": "crop"}
    try:
        manifest: Manifest = stored.typed(values, Manifest)
    except (ValueError, TypeError) as error:
        raise Damaged(f"{folder / MANIFEST} is damaged: {error}. {remedy}") from error
    if (problem := _problem(manifest)) is not None:
        raise Damaged(f"{folder / MANIFEST} is damaged: {problem}. {remedy}")
    return manifest


def _problem(manifest: Manifest) -> str | None:
    """What is wrong with a manifest whose values are of the right types."""
    for file in manifest.files:
        if file.path not in FILES or not set(file.paths) <= set(FILES):
            return f"no export has a file {file.path!r}"
        if file.digests and set(file.digests) != set(file.paths):
            return f"its digests of {file.path} are of other files"
    classes, many = manifest.classes, manifest.labels == "many"
    holds = {
        "its classes are not different names": len(set(classes)) == len(classes) > 0 and all(map(str.strip, classes)),
        "its preprocessing is not valid": _is_preprocessing(manifest),
        "temperature is not above 0": manifest.temperature is None or _is_positive(manifest.temperature),
        "unknown_below is not a probability": manifest.unknown_below is None or 0 <= manifest.unknown_below <= 1,
        "its labels and activation do not go together": (manifest.labels, manifest.activation)
        in (("one", "softmax"), ("many", "sigmoid")),
        "its thresholds are not valid": len(manifest.thresholds) == (len(classes) if many else 0)
        and all(0 <= threshold <= 1 for threshold in manifest.thresholds),
    }
    return next((problem for problem, is_right in holds.items() if not is_right), None)


def _is_preprocessing(manifest: Manifest) -> bool:
    """Whether images can be prepared as a manifest says, in float32."""
    return (
        len(manifest.image_size) == 2
        and all(0 < side <= LARGEST for side in manifest.image_size)
        and manifest.channels >= 1
        and len(manifest.mean) == len(manifest.std) == manifest.channels
        and all(map(_is_positive, manifest.std))
        and all(abs(mean / std) <= MOST for mean, std in zip(manifest.mean, manifest.std, strict=True))
        and manifest.resize in RESIZES
        and 0 < manifest.crop_ratio <= 1
        and len(manifest.background) == 3
        and all(0 <= value <= 255 for value in manifest.background)
        and manifest.max_pixels >= 1
    )


def _is_positive(value: float) -> bool:
    """Whether float32 has a number above 0 for it, at full precision, and for 1 / (255 · value)."""
    return LEAST <= value <= MOST and LEAST <= 1 / (255 * value) <= MOST


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an export folder. Errors: OSError."""
    described = dataclasses.asdict(manifest)
    described[STEPS] = preprocessing.steps(manifest.preparation, manifest.mean, manifest.std)
    files.write_json(folder / MANIFEST, described)
