"""Evaluating the networks of a run again."""

from __future__ import annotations

import argparse

from rich import box
from rich.table import Table

from ... import config as cfg
from ...files import to_json
from ...metrics.names import present
from ...runs.journal import RESULT
from ...terminal import screen
from ..open_run import open_run


def main(arguments: list[str]) -> int:
    """`eval RUN [--split test|val|train|all] [--weights final|best|last] [--json] [key=value …]`."""
    parser = argparse.ArgumentParser(
        prog="runner eval",
        description="Evaluate the networks of a run again, with the data and settings it was trained with.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run id")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="change a key of the run's config, such as data.root=DIR; trust=true allows its custom targets",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("test", "val", "train", "all"),
        help="images (test; all of another set that has no splits)",
    )  # fmt: skip
    parser.add_argument(
        "--weights",
        choices=("final", "best", "last"),
        default="final",
        help="checkpoint: what the run ended with, or another",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args(arguments)
    directory, config = open_run(options.run, options.overrides, sees_data=True)
    from ...worker import finished

    measured = finished.evaluate_run(directory, config, options.split, options.weights)
    evaluation = measured.evaluation
    if options.json:
        about = {"run": options.run, "images": evaluation.count, "measured": measured.images, "notes": measured.notes}
        print(to_json(about | evaluation.values))
        return 0
    networks = dict.fromkeys(name.partition("/")[0] for name in evaluation.values)
    metrics = present(evaluation.of("student"), config.metrics())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for network in networks:
        table.add_column(network, justify="right")
    for metric in metrics:
        table.add_row(metric.title, *(f"{evaluation.values[f'{network}/{metric.name}']:.4f}" for network in networks))
    console = screen()
    console.print(table)
    for note in measured.notes:
        console.print(note, soft_wrap=True, markup=False)
    which = options.weights
    if which == "final":
        # A run that was stopped has not been quantized yet.
        is_quantized = isinstance(config.compression, cfg.Ptq) and (directory / RESULT).is_file()
        which = "best, then quantized" if is_quantized else "best"
    line = f"Measured {measured.images}, with the {which} weights of {options.run}"
    console.print(line, soft_wrap=True, markup=False)
    return 0
