"""Exporting a network of a run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from ... import config as cfg
from ... import files, terminal
from ...config import store
from ...config.keys import expanded
from ...config.rules import validate
from ...deploy.manifest import EXPORT, MANIFEST
from ...errors import ConfigError, DataError, DiskError, ExportError
from ...files.disk_errors import OUTPUT, disk_error
from ...processes import locked, locked_folder
from ...runs import result as results
from ...runs.journal import CONFIG, JOURNAL, LOCK, RESULT, Journal
from ...terminal import screen, styled
from ..open_run import open_run
from . import sync

if TYPE_CHECKING:
    from ...deploy.export import Exported
    from ...runs.result import Calibration


def main(arguments: list[str]) -> int:
    """`export RUN [--network NAME] [--format onnx,paddle,safetensors] [key=value …]`."""
    options = _parser().parse_intermixed_args(arguments)
    directory, config = open_run(options.run, options.overrides, sees_data=True)
    own = store.read(directory / CONFIG).deploy.network
    config = replace(config, deploy=_deploy(config.deploy, options.format, options.network))
    validate(config)
    # A directory that was fetched from MLflow is temporary and has no journal.
    fetched = not (directory / JOURNAL).is_file()
    place = directory if config.deploy.network == own else directory / config.deploy.network
    place = Path(options.output or (Path("exports") / options.run if fetched else place))
    files.refuse_foreign(place / EXPORT, MANIFEST)
    was_there = place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{place} cannot be made: {error.strerror}. Name another folder: --output DIR") from error
    with _locked(None if fetched else directory, place):
        try:
            exported = _export(directory, config, place)
        finally:
            if not was_there:
                files.remove_empty(place)
        show(place, exported)
        if place == directory and not fetched:
            from ...deploy import export

            final = export.publish(Journal(directory), exported)
            sync.add_results(directory, final)
    if exported.failed:
        raise ExportError("\n".join(exported.failed))
    return 0


@contextlib.contextmanager
def _locked(directory: Path | None, place: Path) -> Iterator[None]:
    """Within the context no other process trains or exports a run, or exports into the same folder.

    Errors: ConfigError if one does.
    """
    with contextlib.nullcontext(0) if directory is None else locked(directory / LOCK, patience_s=2) as lock:
        if lock is None:
            raise ConfigError(f"{directory} is being trained or exported by another process. Wait for it.")
        with locked_folder(place, patience_s=2) as is_ours:
            if not is_ours:
                raise ConfigError(
                    f"Another process exports into {place}. Wait for it, or name another folder: --output DIR"
                )
            yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runner export",
        description="Write a network of a run as files for engines, each compared with it on the test images.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run id")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="change a key of the run's config, such as data.root=DIR; trust=true allows its custom targets",
    )  # fmt: skip
    parser.add_argument("--network", help="which network of the run (that of deploy.network)")
    parser.add_argument("--format", metavar="LIST", help="comma-separated: onnx, onnx_fp16, paddle, safetensors")
    parser.add_argument(
        "--output", type=expanded, metavar="DIR", help="folder in which `export/` is written, if not the run's own"
    )
    return parser


def _export(directory: Path, config: cfg.Config, place: Path) -> Exported:
    """Load the network and the images, and write the files in `place`. Errors: those of either."""
    _begins("reading the network and the images")
    from ...deploy import export
    from ...deploy.subject import Subject
    from ...worker import calibration, checks, finished, initial

    stage, weights = finished.load_stage(directory, config, "final")
    classes, loaders = stage.loaders.classes, stage.loaders
    if not len(loaders.train.split):
        raise DataError(f"{stage.about.place} has no training images, which int8 calibration needs.")
    network = config.deploy.network
    fitted = _stored(directory, config)
    if fitted is None:
        checks.unknown_accuracy(config, loaders)
        _begins("calibrating its probabilities on the validation images")
        fitted = calibration.of_network(stage.networks[network], loaders, config, stage.precision)
    reference = finished.reference(directory, config, len(classes))
    subject = Subject.of(config, stage.networks, classes, fitted, weights.thresholds.get(network), reference)
    try:
        exported = export.export(place, subject, loaders.unchanged(), loaders.test, _begins)
    except OSError as error:
        raise disk_error(error, place, OUTPUT) from error
    if not (directory / RESULT).is_file():
        exported.notes.insert(0, f"exported with the best weights of {terminal.place(directory)}, which was stopped")
    exported.notes += initial.leaks(weights, loaders.source, stage.content, [loaders.measured_on])
    return exported


def _begins(stage: str) -> None:
    print(f"Export: {stage} …", file=sys.stderr, flush=True)


def _stored(directory: Path, config: cfg.Config) -> Calibration | None:
    """The run's result, so that files predict as it does; None if another `unknown` is requested."""
    is_same = store.read(directory / CONFIG).deploy.unknown_accuracy == config.deploy.unknown_accuracy
    result = results.read(directory / RESULT) if is_same else None
    return result.calibrations.get(config.deploy.network) if result else None


def _deploy(deploy: cfg.Deploy, formats: str | None, network: str | None) -> cfg.Deploy:
    """The run's export settings with the command line's changes. Errors: ConfigError."""
    if formats:
        deploy = replace(deploy, formats=[_format(text) for text in formats.split(",")])
    if not deploy.formats:
        raise ConfigError("No export format was given. Name some: --format onnx,paddle,safetensors")
    return replace(deploy, network=network or deploy.network)


def show(place: Path, exported: Exported) -> None:
    """Print the files, their agreement with the network, and which is the best here."""
    manifest = exported.manifest
    latency = {id(timing.entry.file): timing for timing in exported.timings}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    right = "Hamming loss" if manifest.labels == "many" else "top-1"
    for heading in ("file", "precision", "MB", right, "agreement", "largest difference", "ms at batch 1", "engine"):
        table.add_column(heading, justify="left" if heading in ("file", "precision", "engine") else "right")
    for file in manifest.files:
        timing = latency.get(id(file))
        table.add_row(
            styled(file.path, "bold") if manifest.is_recommended(file) else file.path,
            file.precision,
            f"{file.bytes / 1e6:.3f}",
            next((f"{value:.4f}" for value in (file.top1, file.hamming_loss) if value is not None), ""),
            "" if file.agreement is None else f"{file.agreement:.2%}",
            "" if file.max_difference is None else f"{file.max_difference:.2g}",
            f"{timing.p50_ms:.2f}" if timing else "",
            f"{timing.engine}, {terminal.counted(timing.threads, 'thread')}" if timing else file.engine or "",
        )
    console = screen()
    console.print(table)
    for note in exported.notes:
        console.print(note, soft_wrap=True)
    if manifest.recommended:
        path = os.path.relpath(place / EXPORT / manifest.recommended)
        console.print(f"Recommended here: {path} in {manifest.file().engine}", soft_wrap=True)


def _format(text: str) -> cfg.Format:
    try:
        return cfg.Format[text.strip()]
    except KeyError as error:
        valid = ", ".join(kind.name for kind in cfg.Format)
        hint = " onnx writes the int8 file of a quantized network too" if "int8" in text else ""
        raise ConfigError(f"--format {text}: unknown format. Valid: {valid}.{hint}") from error
