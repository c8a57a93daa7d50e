"""Grad-CAM maps of a network's predictions, and the effect of compression on its layers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from ... import config as cfg
from ... import terminal
from ...deploy.manifest import MANIFEST
from ...errors import ConfigError, DataError, nearest
from ...report import page as pages
from ...runs import explained as explanations
from ...runs.journal import CONFIG, EXPLAIN_PAGE, EXPLAINED, MISTAKES
from ...terminal import screen
from .. import pictures
from ..open_run import TRUST, open_run
from .arguments import bounded, make_folder, page_path, separate

if TYPE_CHECKING:
    import numpy as np

    from ...compression.effects import Effects
    from ...report.explain_page import Content
    from ...worker.finished import Classifier, Tested

#: Layers that the terminal shows.
ROWS = 10
#: The page of named images, next to that of a run's mistakes.
PICTURES_PAGE = "explain_pictures.html"


def main(arguments: list[str]) -> int:
    """`explain RUN [IMAGES…] [--network NAME] [--class NAME] [--layer NAME] [--output FILE] [key=value …]`."""
    options = _parse(arguments)
    folder = Path(options.run)
    if (folder / MANIFEST).is_file() and not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{options.run} is an exported file, which has no gradients: Grad-CAM needs the trained network. "
            "Name the run that it was exported from."
        )
    paths = list(pictures.find(options.images)) if options.images else []
    if options.output:
        _check_page(options.output)
    directory, config = open_run(options.run, options.overrides, sees_data=not paths)
    options.network = options.network or config.deploy.network
    output = options.output or directory / (PICTURES_PAGE if paths else EXPLAIN_PAGE)
    _check_page(output)
    content = _of_pictures(options, directory, config, paths) if paths else _of_run(options, directory, config)
    content.command = terminal.command("explain", *arguments)
    make_folder(output)
    from ...report import explain_page

    explain_page.write(output, content)
    screen().print(f"Page        {os.path.relpath(output)}", soft_wrap=True, markup=False)
    if paths and content.notes:
        count = f"{len(content.notes)} of {terminal.counted(len(paths), 'picture')} could not be read"
        raise DataError("\n".join([f"{count}:", *content.notes]))
    for note in content.notes:
        screen().print(note, soft_wrap=True, markup=False)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="runner explain",
        description="Show Grad-CAM maps of the run's worst mistakes or of given images, and the effect of "
        "compression on each layer.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run id")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGES",
        help="files, folders (searched through) or 'globs' instead of the worst mistakes; and key=value as in runner "
        "eval, such as trust=true",
    )  # fmt: skip
    parser.add_argument("--network", help="which network of the run (that of deploy.network)")
    parser.add_argument(
        "--weights", choices=("final", "best", "last"), default="final", help="checkpoint (%(default)s)"
    )
    parser.add_argument("--class", dest="of_class", metavar="NAME", help="for given images: also the map of this class")
    parser.add_argument("--layer", metavar="NAME", help="the layer whose map is explained (the last with 4×4 pixels)")
    parser.add_argument(
        "--limit", type=bounded(int, 1, 1_000_000), default=512, metavar="N",
        help="validation images on which the layers of a compressed network are compared (%(default)s)",
    )  # fmt: skip
    count = bounded(int, 1, 1000)
    parser.add_argument("--count", type=count, default=24, metavar="N", help="mistakes at most (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help=f"the page (in the run's directory {EXPLAIN_PAGE}, of pictures {PICTURES_PAGE})",
    )  # fmt: skip
    options = parser.parse_intermixed_args(arguments)
    options.images, options.overrides = separate(options.images)
    if options.of_class and not options.images:
        raise ConfigError("--class is for given images: mistakes are shown with their own class.")
    return options


def _check_page(path: Path) -> None:
    """Errors: ConfigError for another kind of file, ForeignPath if a foreign file is in the way."""
    pages.refuse_overwriting(page_path(path))


def _of_pictures(options: argparse.Namespace, directory: Path, config: cfg.Config, paths: list[str]) -> Content:
    """Maps of given images. Errors: DataError if none can be read; ConfigError."""
    from ...report.explain_page import Content
    from ...training import gradcam
    from ...worker import finished
    from ...worker.explained import Explainer

    classifier = finished.classifier(directory, config, options.network, options.weights)
    chosen_class = _class(options.of_class, classifier.classes) if options.of_class else None
    place = gradcam.find(classifier.network, config.data.input_shape, options.layer)
    errors: list[str] = []
    shown = list(Explainer.of(classifier, place).pictures(_readable(classifier, paths, errors), chosen_class))
    if not shown:
        raise DataError("\n".join(errors[:10]))
    about = f"{options.network} of {terminal.place(directory)}"
    return Content(about, "", str(place), shown, notes=errors)


def _readable(classifier: Classifier, paths: list[str], errors: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pixels of the readable images; messages about the others go to `errors`."""
    for path in paths:
        try:
            yield path, classifier.prepare(path)
        except DataError as error:
            errors.append(str(error))


def _of_run(options: argparse.Namespace, directory: Path, config: cfg.Config) -> Content:
    """Maps of the worst mistakes on the images that the run was tested on."""
    from ...report.explain_page import Content
    from ...training import gradcam
    from ...worker import explained, finished
    from ...worker.mistakes import KEPT

    tested = finished.on_test_images(directory, config, options.network, options.weights)
    notes, shown = tested.stage.notes, []
    try:
        place = gradcam.find(tested.classifier.network, config.data.input_shape, options.layer)
        explainer = explained.Explainer.of(tested.classifier, place)
        shown = list(explainer.mistakes(tested.split, tested.predictions, options.count))
    except ConfigError as error:
        if options.layer or config.compression.kind == "none":
            raise
        # The effect of compression needs no map.
        notes, place = [*notes, str(error)], None
    is_the_runs = options.network == "student" and options.weights == "final" and {*options.overrides} <= {TRUST}
    kept = shown[:KEPT]
    # Reports show the maps of all mistakes that a run keeps, where training takes them.
    is_whole = options.layer is None and len(kept) == min(KEPT, tested.predictions.wrong)
    if place and is_the_runs and is_whole and (directory / MISTAKES).is_file():
        explanations.write(directory / EXPLAINED, str(place), kept)
    split = f"split {tested.stage.loaders.measured_on} of {tested.stage.about.place}"
    about = f"{options.network} of {terminal.place(directory)} · {split}"
    wrong = tested.predictions.wrong, len(tested.predictions.labels)
    content = Content(about, "", str(place) if place else "", shown, wrong, notes)
    content.effects = _effects(options, directory, config, tested, content.notes)
    return content


def _effects(
    options: argparse.Namespace, directory: Path, config: cfg.Config, tested: Tested, notes: list[str]
) -> Effects | None:
    """The effect of compression on the network's layers; None if nothing was compressed."""
    from ...worker import effects

    name, pointer, stage = options.network, options.weights, tested.stage
    with terminal.progress("comparing layers") as tell:
        measured = effects.measure(directory, config, name, pointer, stage, tested.classifier, options.limit, tell)
    if measured:
        notes += measured.notes
        _show(measured)
    return measured


def _decibels(noise: float | None) -> str:
    return "" if noise is None else f"{noise:.1f}"


def _show(measured: Effects) -> None:
    """Print the layers that change the most predictions."""
    of = f"of {terminal.counted(measured.images, 'image')}"
    if rounded := measured.rounded:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("layer", "bits", "changed by it alone", "changed without it", "SNR, dB"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for one in rounded.layers[:ROWS]:
            bits = "/".join(map(str, one.bits))
            counts = ("" if count is None else str(count) for count in (one.alone, one.restored))
            table.add_row(one.name, bits, *counts, _decibels(one.noise))
        screen().print(table)
        more = len(rounded.layers) - ROWS
        rest = (
            f"; {terminal.counted(more, 'more layer')} {terminal.word_for(more, 'is', 'are')} in the page"
            if more > 0
            else ""
        )
        count = "an unknown number of predictions"
        if rounded.changed is not None:
            count = terminal.counted(rounded.changed, "prediction")
        screen().print(f"Quantization changes {count} {of}{rest}", soft_wrap=True)
    if pruned := measured.pruned:
        shares = [1 - after / before for before, after in (pruned.macs, pruned.params)]
        screen().print(
            f"Pruning removed {shares[0]:.1%} of the MACs, {shares[1]:.1%} of the parameters", soft_wrap=True
        )
        if pruned.changed is not None:
            count, origin = terminal.counted(pruned.changed, "prediction"), pruned.origin or "the network before it"
            screen().print(f"Pruning and training since {origin} changed {count} {of}", soft_wrap=True)


def _class(name: str, classes: list[str]) -> int:
    """Errors: ConfigError for an unknown class."""
    if name not in classes:
        raise ConfigError(f"--class {name}: the network has no such class.{nearest(name, classes)}")
    return classes.index(name)
