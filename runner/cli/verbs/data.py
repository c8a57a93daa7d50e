"""A set of images, checked and shown before anything is trained on it. Imports Paddle for its page alone."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from ... import config as cfg
from ... import device, files, terminal
from ...data import about, check, sources
from ...data.splits import Source
from ...errors import DataError
from ...files.digests import text_digest
from ...terminal import screen
from .. import compose
from ..overrides import all_readable
from .arguments import make_folder, page_path

#: Up to this many classes are all shown; of more, this many of the largest and of the smallest.
MOST_ROWS, LARGEST, SMALLEST = 24, 14, 6
#: Characters of the longest bar.
BAR = 32


def main(arguments: list[str]) -> int:
    """`data [GROUP=CHOICE …] [KEY=VALUE …] [--output FILE]`; returns 3 where images cannot be read."""
    parser = argparse.ArgumentParser(
        prog="runner data",
        description="Check every image of a set, and show it: counts, sizes, duplicates, what training will see.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run, such as data.root=DIR")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: data-SET.html in the folder of the runs)"
    )
    options = parser.parse_intermixed_args(arguments)
    config = compose.config_of(all_readable(options.overrides))
    page = page_path(options.output) if options.output else None
    whole = sources.load(config.data)
    page = page or Path("outputs", config.name, f"{_page_of(whole, config.data)}.html")
    # Its import takes as long as all else, and a wrong folder is reported without it.
    from ...report import data_page
    from ...report import page as pages

    listing = page.with_suffix(".txt")
    pages.refuse_overwriting(page)
    files.refuse_overwriting(listing, check.LISTING)
    with terminal.progress("checking images") as tell:
        looked = check.inspect(whole, config.data, thorough=True, tell=tell)
    make_folder(page)
    if looked.broken or listing.exists():
        check.write(looked, listing)
    source, looked = check.without(whole, looked.broken), looked.without_broken()
    numbers, duplicates = about.of(source, looked, config.data)
    _show(numbers, about.counts(source), source.classes)
    device.load_paddle(config.train.threads)
    refused = looked.broken and getattr(config.data, "on_error", None) is not cfg.OnError.skip
    training = terminal.command(*options.overrides, *["data.on_error=skip"] * bool(refused))
    again = terminal.command("data", *arguments)
    data_page.write(page, data_page.Subject(config, source, looked, numbers, duplicates, again, training))
    screen().print(f"Page     {os.path.relpath(page)}", soft_wrap=True)
    if refused:
        raise DataError(check.refusal(looked, numbers.name, listing))
    return 0


def _page_of(source: Source, config: cfg.Data) -> str:
    """The name of a set's page, different for sets of one name in different folders."""
    keys = ("root", "train", "val", "test", "target", "kwargs")
    places = [os.path.abspath(value) if isinstance(value, str) else value for value in map(vars(config).get, keys)]
    name = re.sub(r"[^\w.-]+", "-", source.name)[: files.KEPT]
    return f"data-{name}-{text_digest(repr((config.kind, places)))[:6]}"


def _show(numbers: about.About, counts: np.ndarray, classes: list[str]) -> None:
    """Print a set. counts: int64 [classes, splits]."""
    console = screen()
    console.print(terminal.styled(f"{numbers.name}  ", "bold").append(numbers.place, "not bold dim"), soft_wrap=True)
    console.print(_table(numbers, counts, classes, "#" if console.options.ascii_only else "█"))
    for line in [*numbers.lines()[1:], *numbers.notes()]:
        console.print(line, soft_wrap=True)


def _table(numbers: about.About, counts: np.ndarray, classes: list[str], block: str) -> Table:
    """Image counts of each class in each split, with a bar for the first split."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", overflow="fold")
    for split in numbers.splits:
        table.add_column(split, justify="right")
    table.add_column("")

    def add(name: str, row: np.ndarray, bar: bool = True) -> None:
        length = BAR * row[0] / max(1, counts[:, 0].max())
        bars = Text(block * max(int(row[0] > 0), round(length)), "blue") if bar else ""
        table.add_row(Text(name, "" if bar else "dim"), *(f"{count:,}" for count in row), bars)

    order = about.order(counts)
    shown = [order, order[:0]]
    if len(classes) > MOST_ROWS:
        shown = [order[:LARGEST], order[-SMALLEST:]]
    for label in shown[0]:
        add(classes[label], counts[label])
    if len(shown[1]):
        folded = order[LARGEST:-SMALLEST]
        add(f"… {len(folded):,} more", counts[folded].sum(axis=0), bar=False)
    for label in shown[1]:
        add(classes[label], counts[label])
    table.add_section()
    # Images may have several labels.
    add(terminal.counted(len(classes), "class", "classes"), np.array([*numbers.splits.values()]), bar=False)
    return table
