"""The networks that `model=` takes by name, with their costs. Imports Paddle only to measure."""

from __future__ import annotations

import argparse
import fnmatch
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from ... import device
from ...config import networks
from ...config.networks import Network
from ...errors import ConfigError, nearest
from ...files import to_json
from ...terminal import progress, screen
from .arguments import bounded

#: Columns that rows can be sorted by, besides the name.
COLUMNS = ("params", "macs", "latency")
#: Most networks that are measured: each takes some seconds to build and to convert.
MOST_MEASURED = 50
#: Image size in pixels if a network declares none.
USUAL_SIZE = 224


def main(arguments: list[str]) -> int:
    """`models [PATTERN …] [--sort COLUMN] [--latency] [--json]`."""
    parser = argparse.ArgumentParser(
        prog="runner models",
        description="List the networks that model=NAME takes, with parameters and MACs (multiply-accumulate "
        "operations) for 1,000 classes and one image of the size they were designed for.",
    )
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="part of a name, or a pattern: 'resnet*_vd'")
    parser.add_argument("--sort", choices=("name", *COLUMNS), default="name", help="smallest first (%(default)s)")
    parser.add_argument(
        "--latency",
        action="store_true",
        help="measure here what one image takes in onnxruntime, some seconds a network",
    )
    parser.add_argument(
        "--seconds", type=bounded(float, 0.01, 60), default=0.5, help="of measuring each (%(default)s)", metavar="N"
    )
    parser.add_argument(
        "--threads", type=bounded(int, 1, 1024), default=1, metavar="N", help="CPU threads (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = [asdict(network) for network in chosen(options.patterns)]
    if options.sort == "latency":
        options.latency = True
    if options.latency:
        measure(rows, options.seconds, options.threads)
    if options.sort != "name":
        key = "latency_ms" if options.sort == "latency" else options.sort
        # What could not be measured comes last.
        rows.sort(key=lambda row: (row[key] is None, row[key] or 0))
    if options.json:
        for row in rows:
            print(to_json(row))
        return 0
    screen().print(table(rows, options.latency))
    for row in rows:
        if row.get("reason"):
            screen().print(f"{row['name']}: {row['reason']}", soft_wrap=True)
    return 0


def chosen(patterns: list[str]) -> list[Network]:
    """The networks whose names have one of the patterns in them, all without any. Errors: ConfigError for none."""
    by_name = networks.by_name()
    if not patterns:
        return list(by_name.values())
    matching = [network for name, network in by_name.items() if any(fits(name, pattern) for pattern in patterns)]
    if not matching:
        last = {name.rpartition("/")[2]: name for name in by_name}
        raise ConfigError(
            f"No network is called {' or '.join(patterns)}.{nearest(patterns[0], [*by_name, *last])} "
            "`runner models` lists all."
        )
    return matching


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern is part of a name or matches it as in a shell; case-insensitive."""
    name, pattern = name.lower(), pattern.lower()
    return (
        pattern in name or fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition("/")[2], pattern)
    )


def measure(rows: list[dict[str, Any]], seconds: float, threads: int) -> None:
    """Add `latency_ms`, the median for one image, or the `reason` why there is none.

    Errors: ConfigError for more than MOST_MEASURED networks.
    """
    if len(rows) > MOST_MEASURED:
        raise ConfigError(
            f"--latency: {len(rows)} networks would take too long; at most {MOST_MEASURED} are measured at once. Name "
            "some: runner models 'PPLCNet*' --latency"
        )
    device.load_paddle(threads)
    from ...deploy import network_latency
    from ..compose import config_of

    with progress("measuring") as tell:
        for number, row in enumerate(rows):
            tell(number, len(rows))
            size = row["image_size"] or USUAL_SIZE
            row["latency_ms"], row["reason"] = None, ""
            try:
                config = config_of([f"model={row['name']}", f"data.image_size={size}"])
                row["latency_ms"] = network_latency.of_model(config.model, config.data.input_shape, seconds, threads)
            except ConfigError as error:
                row["reason"] = str(error).splitlines()[0]


def table(rows: list[dict[str, Any]], measured: bool) -> Table:
    """One row per network."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("model=", overflow="fold")
    for heading in ("image", "M parameters", "M MACs", *(["ms/image"] if measured else [])):
        shown.add_column(heading, justify="right")
    for row in rows:
        costs = [number(row["params"], 1e6, 2), number(row["macs"], 1e6, 0)]
        if measured:
            costs.append(number(row["latency_ms"], 1, 2))
        shown.add_row(row["name"], number(row["image_size"], 1, 0), *costs)
    return shown


def number(value: float | None, unit: float, decimals: int) -> str:
    """A number in millions, say; a dash where it was not measured."""
    return "–" if value is None else f"{value / unit:,.{decimals}f}"
