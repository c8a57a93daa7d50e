"""The learning-rate range test. Imports Paddle when the config is composed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ... import config as cfg
from ... import device, terminal
from ...errors import ConfigError
from ...report import page as pages
from ...terminal import screen
from .. import compose
from ..overrides import all_readable
from .arguments import bounded, make_folder, page_path

if TYPE_CHECKING:
    from ...training.range_test import Range

#: Rows of the table, and characters of the longest bar.
ROWS, BAR = 16, 40
#: The default first and last rate, as factors of `optimizer.lr`.
BELOW, ABOVE = 1e-3, 1e2


def main(arguments: list[str]) -> int:
    """`lr [GROUP=CHOICE …] [KEY=VALUE …] [--low RATE] [--high RATE] [--steps N] [--output FILE]`."""
    parser = argparse.ArgumentParser(
        prog="runner lr",
        description="Train for some steps while the learning rate rises, and suggest the rate at which the loss falls "
        "fastest, well below the lowest loss. Nothing that was trained is kept.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run")
    rate = bounded(float, 1e-12, 1e6)
    parser.add_argument("--low", type=rate, metavar="RATE", help=f"first rate (a {1 / BELOW:g}th of optimizer.lr)")
    parser.add_argument("--high", type=rate, metavar="RATE", help=f"last rate ({ABOVE:g} times optimizer.lr)")
    parser.add_argument("--steps", type=bounded(int, 10, 100_000), default=200, metavar="N", help="steps (%(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: lr.html in the folder of the runs)"
    )
    options = parser.parse_intermixed_args(arguments)
    words = all_readable(options.overrides)
    config = compose.config_of(words)
    low, high = options.low or BELOW * config.optimizer.lr, options.high or ABOVE * config.optimizer.lr
    if low >= high:
        raise ConfigError(f"--low {low:g}: must be below --high, which is {high:g}")
    page = page_path(options.output or Path("outputs", config.name, "lr.html"))
    pages.refuse_overwriting(page)
    device.load_paddle(config.train.threads)
    from ...report import lr_page
    from ...training import range_test
    from ...worker import distilling, experiment

    run = experiment.build(range_test.configured(config, low, high, options.steps), whole=False)
    distilling.precompute(run.config, run.training, run.notes)
    for note in run.notes:
        screen().print(Text(note, "yellow"), soft_wrap=True)
    with terminal.progress("training") as tell:
        curve = range_test.run(run.training, tell)
    if not curve.losses:
        raise ConfigError(f"--low {low:g}: the loss is not finite even at the first rate. Lower it.")
    _show(curve)
    make_folder(page)
    training = (
        "" if curve.suggested is None else terminal.command(*words, *_rates(config, curve.rates[curve.suggested]))
    )
    about = f"{run.about.lines()[0]} · {config.optimizer.kind}"
    lr_page.write(page, curve, about, (training, terminal.command("lr", *arguments)))
    screen().print(f"Page        {os.path.relpath(page)}", soft_wrap=True)
    return 0


def _override(rate: float) -> str:
    return f"optimizer.lr={rate:.2g}"


def _rates(config: cfg.Config, rate: float) -> list[str]:
    """Overrides that set a rate; a second optimizer's rate keeps its ratio to the first."""
    peer = config.mode.peer_optimizer if isinstance(config.mode, cfg.ClsDistillMultiopt) else None
    own = [f"mode.peer_optimizer.lr={peer.lr * rate / config.optimizer.lr:.2g}"] if peer else []
    return [_override(rate), *own]


def _show(curve: Range) -> None:
    """Print the loss at some of the rates, and what they suggest."""
    console = screen()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("learning rate", justify="right")
    table.add_column("loss", justify="right")
    table.add_column("")
    block = "#" if console.options.ascii_only else "█"
    count = min(ROWS, len(curve.rates))
    places = sorted({*(at * (len(curve.rates) - 1) // max(1, count - 1) for at in range(count)), curve.lowest})
    if curve.suggested is not None:
        places = sorted({*places, curve.suggested})
    # A diverging loss must not shrink the other bars.
    most = max(curve.smoothed[: curve.lowest + 1])
    for at in places:
        style = "bold green" if at == curve.suggested else "blue"
        bar = block * max(0, round(BAR * min(1, curve.smoothed[at] / most))) if most > 0 else ""
        table.add_row(f"{curve.rates[at]:.2g}", f"{curve.smoothed[at]:.4f}", Text(bar, style))
    console.print(table)
    if curve.suggested is None:
        console.print(
            "Suggestion  none: the loss hardly falls at these rates. Try others, --low and --high, or more --steps"
        )
    else:
        rate = curve.rates[curve.suggested]
        why = f"where the loss falls fastest, up to a tenth of {curve.rates[curve.lowest]:.2g}, where it is lowest"
        console.print(f"Suggestion  {_override(rate)}  ({why})", soft_wrap=True)
    if len(curve.rates) > 1 and curve.lowest == len(curve.rates) - 1:
        console.print("The loss still falls at the highest rate: try a higher one, --high", soft_wrap=True)
