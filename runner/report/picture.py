"""A plot of accuracy against latency for a sweep's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..terminal import printable, say
from . import costs, subject, verdict
from .figures import boxes, plain_texts
from .subject import Run

#: Most runs whose names are in the plot; the page names more.
LISTED = 50


def draw(runs: Sequence[Run], path: Path) -> bool:
    """Plot the deciding test metric over the latency of exported runs, with points of the area of the file's size.

    Returns whether there were at least two of them.
    """
    names = "".join(printable(run.title) for run in runs)
    with plain_texts(names):
        is_drawn = _draw(runs, path)
    if is_drawn and (note := boxes(names)):
        say(f"{path.name}: {note}")
    return is_drawn


def _draw(runs: Sequence[Run], path: Path) -> bool:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    metric = subject.compared_by(runs)
    shown = [run for run in runs if run.final.get("latency_ms_p50", 0) > 0 < run.final.get("size_mb", 0)]
    if len(shown) < 2:
        return False
    figure = Figure(figsize=(8, 5))
    panel = figure.subplots()
    largest = max(run.final["size_mb"] for run in shown)
    colors = colormaps["tab10"]
    for number, run in enumerate(shown):
        place = run.final["latency_ms_p50"], verdict.reached(run, metric, costs.LATENCY)
        area = 40 + 600 * run.final["size_mb"] / largest
        panel.scatter(*place, s=area, color=colors(number % 10), alpha=0.65)
        if len(shown) <= LISTED:
            panel.annotate(run.label, place, ha="center", va="center", fontsize=8)
    title = f"{metric.title} and latency; area: size of the file"
    reached = verdict.reached_title(shown, metric, costs.LATENCY)
    panel.set(xlabel=costs.LATENCY.title, ylabel=reached, title=title)
    panel.grid(alpha=0.3)
    panel.margins(0.15)
    # The legend's markers have one size; areas mean file sizes only in the plot.
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colors(number % 10), label=printable(run.title))
        for number, run in enumerate(shown[:LISTED])
    ]
    if len(shown) <= LISTED:
        panel.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=110, bbox_inches="tight")
    return True
