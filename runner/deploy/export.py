"""Exporting one network of a run: files for engines, each compared with the trained network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from paddle import nn

from .. import config as cfg
from .. import device, files
from ..checkpoints import preprocessing, weights
from ..compression import slim
from ..config.deploy import RUN_BY_ENGINES
from ..data import Batch
from ..errors import UserError, telling_line
from ..files.digests import file_digest
from ..models import macs
from ..runs.journal import Journal
from . import bench, engines, inside, noise, to_onnx, twin
from .compare import compare
from .graph.quantized_weight import QuantizedWeight
from .manifest import EXPORT, FILES, MANIFEST, ONNXRUNTIME, OPENVINO, PADDLE, ExportedFile, Manifest
from .manifest import write as write_manifest
from .quantization import write as write_quantization
from .recommendation import recommend
from .subject import Subject

#: Training images for calibrating activation ranges that training has not set.
CALIBRATION_IMAGES = 256
#: The number of them on which quantization noise is measured.
MEASURED_IMAGES = 64
#: Files that are made from other files.
HALF = "model.fp16.onnx"


@dataclass
class Exported:
    """The result of an export."""

    manifest: Manifest
    timings: list[bench.Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Notes for the user on the files."""
    failed: list[str] = field(default_factory=list)
    """Names of files that follow from others and could not be made, each with the reason; the others are there."""


def export(
    directory: Path,
    subject: Subject,
    calibration: Iterable[Batch],
    test: Iterable[Batch],
    begins: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write `export/` of a run directory: files in the formats of `deploy.formats`, and `model.json`.

    An earlier export is replaced once all new files are there; a note names those of its files that are gone.
    `calibration`: training images for ranges that training has not set; `test`: images on which every file is compared
    with the trained network; `begins` is called with each stage, in words. The comparison is in float32 on the CPU, to
    which the network is moved. Errors: CheckpointError for a float file that differs by more than rounding; ConfigError
    if a tool is missing; OSError for a full disk.
    """
    files.refuse_foreign(directory / EXPORT, MANIFEST)
    before = _present(directory / EXPORT)
    files.remove_partials(directory)
    device.move_to_cpu(*filter(None, (subject.network, subject.reference)))
    with files.partial_folder(directory / EXPORT) as partial:
        try:
            exported = _write(partial, subject, calibration, test, begins)
        except UserError:
            raise
        except Exception:
            # Paddle and paddle2onnx write half of a file on a full disk, and do not say so.
            files.require_room(directory / EXPORT, 2 * sum(4 * one.size for one in subject.network.parameters()))
            raise
        files.put_in_place(partial, directory / EXPORT, MANIFEST, FILES)
    present = _present(directory / EXPORT)
    if removed := [name for name in before if name not in present]:
        exported.notes.append(f"removed from the export, which was replaced: {', '.join(removed)}")
    return exported


def _present(folder: Path) -> list[str]:
    """The files of an export that a folder has."""
    return [name for name in FILES if (folder / name).is_file()]


def _write(
    folder: Path,
    subject: Subject,
    calibration: Iterable[Batch],
    test: Iterable[Batch],
    begins: Callable[[str], None],
) -> Exported:
    settings, formats = subject.config.deploy, set(subject.config.deploy.formats)
    begins(f"writing {', '.join(kind.name for kind in settings.formats)}")
    plain, quantized = twin.build(subject.network, subject.model, *subject.built_for)
    exported = Exported(_manifest(subject, plain, bool(quantized)))
    manifest = exported.manifest
    images = _some_images(calibration) if quantized else np.empty(0)
    if quantized and subject.reference:
        described = noise.measure(subject.name, subject.network, subject.reference, images[:MEASURED_IMAGES])
        write_quantization(folder, described)
    if cfg.Format.safetensors in formats:
        pruned = twin.is_pruned(plain, subject.model, *subject.built_for)
        manifest.files.append(_safetensors(folder, subject, pruned))
    if formats & RUN_BY_ENGINES:
        manifest.files += _programs(folder, plain, quantized, images, exported, formats)
    del plain
    device.restore_malloc()
    if engines.is_installed(OPENVINO):
        manifest.files += [replace(file, engine=OPENVINO) for file in manifest.files if file.engine == ONNXRUNTIME]
    begins("comparing the files with the network on the test images")
    exported.notes += compare(folder, manifest, subject, test)
    begins("measuring the files")
    exported.timings = recommend(folder, manifest, settings)
    if settings.preprocess is cfg.Preprocess.inside:
        manifest.files += _derived(exported, folder / inside.FILE, lambda: _pictures(folder, exported))
    if quantized and cfg.Format.onnx not in formats:
        exported.notes.append("only ONNX files can be int8, the others are float: deploy.formats=[onnx]")
    if subject.config.compression.quantize and not quantized:
        exported.notes.append("not quantized yet: the run was stopped before the end, at which compression=ptq does it")
    write_manifest(folder, manifest)
    return exported


def _derived(exported: Exported, path: Path, make: Callable[[], ExportedFile]) -> list[ExportedFile]:
    """A file that is made from another one, or none: an error of a library must not lose the other files.

    Errors: OSError and MemoryError, also where a library hides that a disk is full.
    """
    try:
        return [make()]
    except (OSError, MemoryError):
        raise
    except Exception as error:
        files.require_room(path, 2 * sum(file.bytes for file in exported.manifest.files))
        files.remove_file(path)
        exported.failed.append(f"{path.name} could not be made: {type(error).__name__}: {telling_line(error)}")
        return []


def _manifest(subject: Subject, plain: nn.Layer, is_quantized: bool) -> Manifest:
    """What is known before any file is written; `plain` is the network without fake quantization."""
    config = subject.config
    # A run that was stopped has not come to its post-training quantization.
    is_calibrated = isinstance(config.compression, cfg.Ptq)
    return Manifest(
        network=subject.name,
        model=cfg.model_name(subject.model),
        compression="none" if is_calibrated and not is_quantized else config.compression.kind,
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
        labels="many" if config.data.many else "one",
        activation="sigmoid" if config.data.many else "softmax",
        thresholds=subject.thresholds,
        params=slim.parameters(plain),
        macs=macs(plain, config.data.input_shape),
    )


def _programs(
    folder: Path,
    plain: nn.Layer,
    quantized: list[QuantizedWeight],
    images: np.ndarray,
    exported: Exported,
    formats: set[cfg.Format],
) -> list[ExportedFile]:
    """The files that engines run, float ones and integers; `images` are those that calibrate the integers."""
    written, manifest = list[ExportedFile](), exported.manifest
    with TemporaryDirectory(dir=folder) as place:
        floats, integers = Path(place) / "floats", Path(place) / "integers"
        if quantized and cfg.Format.onnx in formats:
            to_onnx.trace(plain, manifest.input_shape, integers)
        to_onnx.trace(twin.with_clips(plain, quantized), manifest.input_shape, floats)
        if cfg.Format.onnx in formats:
            written.append(_float_onnx(folder, floats, manifest))
            if quantized:
                written.append(_integer_onnx(folder, integers, quantized, images, manifest))
        if cfg.Format.onnx_fp16 in formats:
            single = folder / "model.onnx"
            if not single.is_file():
                single = floats.with_suffix(".onnx")
                to_onnx.convert(floats, single, folded=True)
            written += _derived(exported, folder / HALF, lambda: _half_onnx(folder, single, manifest))
        if cfg.Format.paddle in formats:
            written.append(_paddle(folder, floats))
    return written


def _safetensors(folder: Path, subject: Subject, pruned: bool) -> ExportedFile:
    from safetensors.paddle import save

    state = {name: value.contiguous() for name, value in subject.network.state_dict().items()}
    metadata = weights.metadata(pruned, subject.classes, preprocessing.of(subject.config.data))
    (folder / "model.safetensors").write_bytes(save(state, metadata=metadata))
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


def _half_onnx(folder: Path, single: Path, manifest: Manifest) -> ExportedFile:
    to_onnx.halve_file(single, folder / HALF)
    to_onnx.describe(folder / HALF, manifest.reading)
    return _described(folder, HALF, cfg.Format.onnx, "float16", ONNXRUNTIME)


def _integer_onnx(
    folder: Path, prefix: Path, quantized: list[QuantizedWeight], images: np.ndarray, manifest: Manifest
) -> ExportedFile:
    to_onnx.convert(prefix, prefix.with_suffix(".onnx"))
    to_onnx.quantize_file(prefix.with_suffix(".onnx"), folder / "model.int8.onnx", quantized, images)
    to_onnx.describe(folder / "model.int8.onnx", manifest.reading)
    return _described(folder, "model.int8.onnx", cfg.Format.onnx, "int8", ONNXRUNTIME)


def _pictures(folder: Path, exported: Exported) -> ExportedFile:
    """The recommended ONNX file, else the first one, with preprocessing added to the network."""
    manifest = exported.manifest
    files = sorted(manifest.files, key=manifest.is_recommended, reverse=True)
    network = next(file for file in files if file.format == cfg.Format.onnx.value)
    write_manifest(folder, manifest)
    exported.notes.append(inside.write(folder, manifest, network.path))
    return _described(folder, inside.FILE, cfg.Format.onnx, network.precision, None)


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
    described.digests = {part: file_digest(folder / part) for part in described.paths}
    return described


def publish(journal: Journal, exported: Exported) -> dict[str, float]:
    """Write an export to the journal; returns the recommended file's part of a run's final metrics."""
    journal.artifact(EXPORT, EXPORT)
    manifest = exported.manifest
    if manifest.recommended is None:
        return {}
    journal.append("model", path=EXPORT)
    own = {"exported_top1": manifest.file().top1, "exported_hamming_loss": manifest.file().hamming_loss}
    right = {name: value for name, value in own.items() if value is not None}
    return _integers(manifest) | right | {"size_mb": manifest.file().bytes / 1e6} | bench.metrics(exported.timings)


def _integers(manifest: Manifest) -> dict[str, float]:
    """Accuracy of the int8 file itself, which may be below that of the fake-quantized network.

    In onnxruntime, if it was measured there, so that runs can be compared.
    """
    for file in sorted(manifest.files, key=lambda one: one.engine != ONNXRUNTIME):
        right = {"int8_top1": file.top1, "int8_hamming_loss": file.hamming_loss}
        if file.precision == "int8" and file.agreement is not None:
            return {name: one for name, one in right.items() if one is not None} | {"int8_agreement": file.agreement}
    return {}
