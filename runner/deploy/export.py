"""Exporting one network of a run: files that engines load, each compared with the trained network."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import paddle
from paddle import nn

from .. import config as cfg
from .. import device, files, models
from ..checkpoints import weights
from ..compression import slim
from ..data import Batch
from ..errors import CheckpointError
from ..models import Networks, macs
from ..runs.journal import Journal
from ..runs.result import Calibration
from ..training.evaluation import untouched
from ..training.precision import Precision
from ..training.thresholds import USUAL
from . import bench, engines, to_onnx, twin
from .graph.quantized_weight import QuantizedWeight
from .manifest import EXPORT, FILES, MANIFEST, ONNXRUNTIME, OPENVINO, PADDLE, ExportedFile, Manifest
from .manifest import write as write_manifest

#: What a float file may differ by: part of the images with the trained network's top-1, and largest difference of a
#: logit as a part of the largest logit (at least of 1).
FLOAT_AGREEMENT, FLOAT_DIFFERENCE = 1.0, 1e-3
#: Two logits that differ by less than this part of the largest one are equal but for rounding.
TIE = 1e-5
#: Training images whose activations bound what training itself did not quantize.
CALIBRATION_IMAGES = 256
#: Images that are compared at once.
COMPARED_AT_ONCE = 32
#: By how much a file must be faster to be preferred to a smaller one.
FASTER = 1.05


@dataclass
class Subject:
    """What is exported."""

    network: nn.Layer
    """The trained network, with its simulated integers if it has any."""
    name: str
    """Its name in the run."""
    config: cfg.Config
    model: cfg.Model
    classes: list[str]
    precision: Precision
    """How its forward passes are cast."""
    temperature: float | None = None
    """What its logits are divided by for calibrated probabilities; None: nothing."""
    unknown_below: float | None = None
    """Probability of the most probable class below which it does not know a picture; None: it answers always."""
    thresholds: list[float] = field(default_factory=list)
    """Where images have many labels, the probability of each class from which on it is predicted; else empty."""


def subject(
    config: cfg.Config,
    networks: Networks,
    classes: list[str],
    precision: Precision,
    calibration: Calibration | None = None,
    thresholds: list[float] | None = None,
) -> Subject:
    """The network that `deploy.network` names."""
    name = config.deploy.network
    thresholds = (thresholds or [USUAL] * len(classes)) if config.data.many else []
    model = models.model_of(config, name)
    fitted = calibration or Calibration()
    return Subject(
        networks[name], name, config, model, classes, precision, fitted.temperature, fitted.unknown_below, thresholds
    )


@dataclass
class Exported:
    """What an export made."""

    manifest: Manifest
    timings: list[bench.Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know before using the files."""


def export(directory: Path, subject: Subject, calibration: Iterable[Batch], test: Iterable[Batch]) -> Exported:
    """Write `export/` of a run directory: files in the formats of `deploy.formats` and `model.json` beside them.

    The files of an earlier export are replaced once all new ones are there. `calibration` are training images for
    ranges that training left open, `test` the images on which every file is compared with the trained network. Errors:
    CheckpointError for a float file that differs by more than rounding; ConfigError where a tool is missing.
    """
    files.refuse_foreign(directory / EXPORT, MANIFEST)
    files.remove_partials(directory)
    with files.partial_folder(directory / EXPORT) as partial:
        exported = _write(partial, subject, calibration, test)
        files.put_in_place(partial, directory / EXPORT, MANIFEST, FILES)
    return exported


def _write(folder: Path, subject: Subject, calibration: Iterable[Batch], test: Iterable[Batch]) -> Exported:
    config = subject.config
    shape = config.data.input_shape
    built_for = len(subject.classes), config.data.channels
    plain, quantized = twin.build(subject.network, subject.model, *built_for)
    manifest = Manifest(
        network=subject.name,
        model=cfg.model_name(subject.model),
        compression=config.compression.kind,
        classes=subject.classes,
        temperature=subject.temperature,
        unknown_below=subject.unknown_below,
        image_size=list(config.data.size),
        channels=config.data.channels,
        resize=config.data.resize.value,
        crop_ratio=config.data.crop_ratio,
        background=list(config.data.background),
        max_pixels=config.data.max_pixels,
        mean=list(config.data.mean),
        std=list(config.data.std),
        labels=config.data.labels.name,
        activation="sigmoid" if config.data.many else "softmax",
        thresholds=subject.thresholds,
        params=slim.parameters(plain),
        macs=macs(plain, shape),
    )
    formats = set(config.deploy.formats)
    if cfg.Format.safetensors in formats:
        pruned = twin.is_pruned(plain, subject.model, *built_for)
        manifest.files.append(_safetensors(folder, subject.network, pruned, subject.classes))
    if formats & {cfg.Format.onnx, cfg.Format.onnx_fp16, cfg.Format.paddle}:
        with TemporaryDirectory(dir=folder) as place:
            integers = Path(place) / "integers"
            if quantized and cfg.Format.onnx in formats:
                to_onnx.trace(plain, shape, integers)
            floats = Path(place) / "floats"
            to_onnx.trace(twin.with_clips(plain, quantized), shape, floats)
            if cfg.Format.onnx in formats:
                manifest.files.append(_float_onnx(folder, floats, manifest))
                if quantized:
                    manifest.files.append(_integer_onnx(folder, integers, quantized, calibration, manifest))
            if cfg.Format.onnx_fp16 in formats:
                manifest.files.append(_half_onnx(folder, floats, manifest))
            if cfg.Format.paddle in formats:
                manifest.files.append(_paddle(folder, floats))
    del plain
    device.restore_malloc()
    if engines.is_installed(OPENVINO):
        manifest.files += [replace(file, engine=OPENVINO) for file in manifest.files if file.engine == ONNXRUNTIME]
    notes = compare(folder, manifest, subject, test)
    timings = recommend(folder, manifest, config.deploy)
    if config.deploy.preprocess is cfg.Preprocess.inside:
        manifest.files.append(_pictures(folder, manifest))
    if quantized and cfg.Format.onnx not in formats:
        notes.append("the simulated integers are in ONNX files only: deploy.formats=[onnx]")
    write_manifest(folder, manifest)
    return Exported(manifest, timings, notes)


def _safetensors(folder: Path, network: nn.Layer, pruned: bool, classes: list[str]) -> ExportedFile:
    from safetensors.paddle import save

    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(state, metadata=weights.metadata(pruned, classes)))
    return _described(folder, "model.safetensors", cfg.Format.safetensors, "float32", None)


def _paddle(folder: Path, prefix: Path) -> ExportedFile:
    (folder / "paddle").mkdir()
    for suffix in (".json", ".pdiparams"):
        shutil.copy(prefix.with_suffix(suffix), folder / "paddle" / f"model{suffix}")
    return _described(folder, "paddle/model.json", cfg.Format.paddle, "float32", PADDLE)


def _float_onnx(folder: Path, prefix: Path, manifest: Manifest) -> ExportedFile:
    to_onnx.convert(prefix, folder / "model.onnx", folded=True)
    to_onnx.describe(folder / "model.onnx", manifest.reading)
    return _described(folder, "model.onnx", cfg.Format.onnx, "float32", ONNXRUNTIME)


def _half_onnx(folder: Path, prefix: Path, manifest: Manifest) -> ExportedFile:
    single = folder / "model.onnx"
    if not single.is_file():
        single = prefix.with_suffix(".onnx")
        to_onnx.convert(prefix, single, folded=True)
    to_onnx.halve_file(single, folder / "model.fp16.onnx")
    to_onnx.describe(folder / "model.fp16.onnx", manifest.reading)
    return _described(folder, "model.fp16.onnx", cfg.Format.onnx, "float16", ONNXRUNTIME)


def _integer_onnx(
    folder: Path, prefix: Path, quantized: list[QuantizedWeight], calibration: Iterable[Batch], manifest: Manifest
) -> ExportedFile:
    to_onnx.convert(prefix, prefix.with_suffix(".onnx"))
    images = _some_images(calibration)
    to_onnx.quantize_file(prefix.with_suffix(".onnx"), folder / "model.int8.onnx", quantized, images)
    to_onnx.describe(folder / "model.int8.onnx", manifest.reading)
    return _described(folder, "model.int8.onnx", cfg.Format.onnx, "int8", ONNXRUNTIME)


def _pictures(folder: Path, manifest: Manifest) -> ExportedFile:
    """The ONNX file that is recommended, else the first one, as one that prepares pictures itself."""
    files = sorted(manifest.files, key=manifest.is_recommended, reverse=True)
    network = next(file for file in files if file.format == cfg.Format.onnx.value)
    to_onnx.add_pictures(folder / network.path, folder / "model.pictures.onnx", manifest)
    return _described(folder, "model.pictures.onnx", cfg.Format.onnx, network.precision, None)


def _some_images(batches: Iterable[Batch]) -> np.ndarray:
    """float32 [n, C, H, W] of the first batches."""
    images: list[np.ndarray] = []
    for batch in batches:
        images.append(batch.images.numpy())
        if sum(map(len, images)) >= CALIBRATION_IMAGES:
            break
    return np.concatenate(images)[:CALIBRATION_IMAGES]


def _described(folder: Path, path: str, kind: cfg.Format, precision: str, engine: str | None) -> ExportedFile:
    described = ExportedFile(path=path, format=kind.value, precision=precision, bytes=0, engine=engine)
    described.bytes = sum((folder / part).stat().st_size for part in described.paths)
    return described


def _parts(batch: Batch) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
    """(images, labels) of a batch in parts that need little memory in the network and in every engine."""
    labels = batch.labels.numpy()
    for begin in range(0, len(labels), COMPARED_AT_ONCE):
        part = slice(begin, begin + COMPARED_AT_ONCE)
        yield batch.images[part], labels[part]


def compare(folder: Path, manifest: Manifest, subject: Subject, batches: Iterable[Batch]) -> list[str]:
    """Run every file on the images and note in it how far it agrees with the network. What a person should know of it.

    Errors: CheckpointError for a float file of a float network beyond the tolerance.
    """
    runnable, running, notes = _opened(folder, manifest, subject.config.deploy.threads)
    count, largest, many = 0, 1.0, subject.config.data.many
    agreeing, correct, differences = np.zeros((3, len(running)))
    # A label is decided where its logit reaches that of its threshold. In float32 a probability is 1 from there on.
    thresholds = np.minimum(subject.thresholds, 1 - 2.0**-25)
    bounds = np.log(thresholds) - np.log1p(-thresholds) if many else None
    with untouched(subject.network):
        for part, labels in itertools.chain.from_iterable(map(_parts, batches)):
            with subject.precision.autocast():
                logits = subject.network(part)
            expected = logits.astype("float32").numpy()
            images = part.numpy()
            count, largest = count + len(images), max(largest, float(np.abs(expected).max()))
            for place, engine in enumerate(running):
                outputs = engine(images)
                agrees, right = _compared(outputs, expected, labels, bounds)
                agreeing[place], correct[place] = agreeing[place] + agrees, correct[place] + right
                # Of a number and none NumPy's is none, Python's whichever comes first.
                differences[place] = np.maximum(differences[place], np.abs(outputs - expected).max())
    for place, file in enumerate(runnable):
        file.agreement, right = float(agreeing[place] / max(1, count)), float(correct[place] / max(1, count))
        file.top1, file.hamming_loss = (None, 1 - right) if many else (right, None)
        file.max_difference = float(differences[place])
        if subject.config.compression.quantize is None and file.precision == "float32":
            notes += _check_float(file, count, FLOAT_DIFFERENCE * largest)
        elif file.agreement < subject.config.deploy.agreement:
            what, images = ("decision", "labels of ") if many else ("class", "")
            notes.append(
                f"{_named(file)} has the trained network's {what} for {file.agreement:.1%} of {images}{count} test "
                f"images only (deploy.agreement={subject.config.deploy.agreement:g})"
            )
    return notes


def _opened(
    folder: Path, manifest: Manifest, threads: int
) -> tuple[list[ExportedFile], list[engines.Engine], list[str]]:
    """Files with their engines, and notes. What OpenVINO cannot open is taken out of the manifest."""
    running, notes = [], []
    for file in [file for file in manifest.files if file.engine]:
        try:
            running.append((file, engines.open_(folder, file, threads)))
        except CheckpointError as error:
            if file.engine != OPENVINO:
                raise
            manifest.files.remove(file)
            notes.append(f"{error} OpenVINO is left out.")
    return [file for file, _ in running], [engine for _, engine in running], notes


def _named(file: ExportedFile) -> str:
    return f"{file.path} in OpenVINO" if file.engine == OPENVINO else file.path


def _compared(
    outputs: np.ndarray, expected: np.ndarray, labels: np.ndarray, bounds: np.ndarray | None
) -> tuple[float, float]:
    """Images for which a file decides as the network does, but for rounding; and rightly.

    outputs, expected: float32 [n, K]; labels: int64 [n]. With the `bounds` of many labels, float [K] and uint8 [n, K],
    an image counts by the part of its labels.
    """
    rounding = TIE * np.abs(expected).max(1)
    if bounds is not None:
        decided = outputs >= bounds
        agrees = (decided == (expected >= bounds)) | (np.abs(expected - bounds) <= rounding[:, None])
        return float(agrees.mean(1).sum()), float((decided == labels).mean(1).sum())
    classes = outputs.argmax(1)
    chosen = np.take_along_axis(expected, classes[:, None], 1)[:, 0]
    return float((chosen >= expected.max(1) - rounding).sum()), float((classes == labels).sum())


def _check_float(file: ExportedFile, count: int, tolerance: float) -> list[str]:
    """Notes. Errors: CheckpointError, for a file that onnxruntime reads wrongly is wrong itself."""
    assert file.agreement is not None
    assert file.max_difference is not None
    if file.agreement < FLOAT_AGREEMENT or not file.max_difference <= tolerance:
        wrong = (
            f"{_named(file)} is not the trained network: on {count} test images it agrees in {file.agreement:.2%} of "
            f"the classes, and logits differ by up to {file.max_difference:.2g} (tolerance {tolerance:.2g})"
        )
        if file.engine == OPENVINO:
            return [wrong]
        raise CheckpointError(f"{wrong}. Export to another format: deploy.formats=[paddle]")
    return []


def recommend(folder: Path, manifest: Manifest, settings: cfg.Deploy) -> list[bench.Timing]:
    """Measure every file here and note the best: the fastest that agrees, or a smaller one that is about as fast.

    Where none agrees enough it is the one that agrees most.
    """
    files = [file for file in manifest.files if file.engine]
    if not files:
        return []
    closest = max(file.agreement or 0 for file in files)
    fit = [file for file in files if (file.agreement or 0) >= min(settings.agreement, closest)]
    if not settings.bench_s:
        manifest.recommended, manifest.recommended_engine = fit[0].path, fit[0].engine
        return []
    entries = [bench.Entry(manifest.network, folder, manifest, file) for file in files]
    timings = bench.measure(entries, [1], settings.bench_s, settings.threads)
    latency = {id(timing.entry.file): timing.p50_ms for timing in timings}
    fastest = min(latency[id(file)] for file in fit)
    near = [file for file in fit if latency[id(file)] <= FASTER * fastest]
    best = min(near, key=lambda file: file.bytes)
    manifest.recommended, manifest.recommended_engine = best.path, best.engine
    return timings


def publish(journal: Journal, exported: Exported) -> dict[str, float]:
    """Tell the journal of an export; returns what of the recommended file belongs to a run's final numbers."""
    journal.artifact(EXPORT, EXPORT)
    manifest = exported.manifest
    if manifest.recommended is None:
        return {}
    journal.append("model", path=EXPORT)
    return _integers(manifest) | {"size_mb": manifest.file().bytes / 1e6} | bench.metrics(exported.timings)


def _integers(manifest: Manifest) -> dict[str, float]:
    """How good the int8 file is by itself, which need not be as good as the network with simulated integers."""
    for file in sorted(manifest.files, key=manifest.is_recommended, reverse=True):
        right = {"int8_top1": file.top1, "int8_hamming_loss": file.hamming_loss}
        if file.precision == "int8" and file.agreement is not None:
            return {name: one for name, one in right.items() if one is not None} | {"int8_agreement": file.agreement}
    return {}
