"""Classes and probabilities for image files."""

from __future__ import annotations

import argparse

import numpy as np
from rich import box
from rich.table import Table

from ...files import to_json
from ...terminal import screen
from ..open_run import open_run
from .arguments import bounded, separate


def main(arguments: list[str]) -> int:
    """`predict RUN IMAGES… [key=value …] [--network NAME] [--top N] [--json]`."""
    parser = argparse.ArgumentParser(prog="runner predict", description="Classify image files with a run's network.")
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run id")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES",
        help="files, folders (searched through) or 'globs'; key=value as in runner eval, trust=true too",
    )  # fmt: skip
    parser.add_argument("--network", default="student", help="which network of the run (%(default)s)")
    parser.add_argument(
        "--top", type=bounded(int, 1, 1_000_000), default=3, metavar="N", help="classes an image (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_intermixed_args(arguments)
    images, overrides = separate(options.images)
    if not images:
        parser.error("the following arguments are required: IMAGES")
    directory, config = open_run(options.run, overrides)
    from ...data import folder
    from ...worker import finished

    files = folder.find(images)

    classifier = finished.classifier(directory, config, options.network)
    top = min(options.top, len(classifier.classes))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("image", "class", "probability", *(["then"] if top > 1 else [])):
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    for path, probabilities in zip(files, classifier(files), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:top]
        ranked = [(classifier.classes[place], float(probabilities[place])) for place in best]
        if options.json:
            classes = [{"class": name, "probability": probability} for name, probability in ranked]
            print(to_json({"image": str(path), "classes": classes}))
            continue
        others = ", ".join(f"{name} {probability:.3f}" for name, probability in ranked[1:])
        table.add_row(str(path), ranked[0][0], f"{ranked[0][1]:.3f}", *([others] if top > 1 else []))
    if not options.json:
        screen().print(table)
    return 0
