"""A sweep as a table and a plot: accuracy against what the exported networks cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError


@dataclass
class Column:
    """One number of a finished run, as a table shows it."""

    heading: str
    name: str
    """Its key among the run's final numbers."""
    unit: float
    """What it is divided by."""
    digits: int

    def text(self, final: dict[str, Any]) -> str:
        """The number as text; empty where the run has none."""
        value = final.get(self.name)
        return "" if value is None else f"{value / self.unit:.{self.digits}f}"


#: What a sweep is compared by, besides accuracy.
COSTS = (
    Column("M parameters", "params", 1e6, 3),
    Column("M MACs", "macs", 1e6, 2),
    Column("MB", "size_mb", 1, 3),
    Column("ms/image", "latency_ms_p50", 1, 2),
)


def measured(jobs: Sequence[tuple[str, Path, dict[str, Any]]]) -> tuple[dict[str, dict[str, Any]], str]:
    """Name → final numbers of finished runs (name, directory, final numbers), and what measured their latencies.

    What a run measured at its own end says as much of the moment as of the network: here the recommended ONNX files of
    all runs are measured in turns. Where that cannot be done the runs' own numbers stay.
    """
    from .deploy import bench
    from .deploy.manifest import EXPORT, MANIFEST

    exports = [(name, directory / EXPORT) for name, directory, _ in jobs if (directory / EXPORT / MANIFEST).is_file()]
    try:
        entries = [entry for name, folder in exports for entry in bench.entries(name, folder, ["onnx"])]
        timings = bench.measure([entry for entry in entries if entry.file.path == entry.manifest.recommended])
    except UserError:
        timings = []
    latest = {
        timing.entry.run: {"latency_ms_p50": timing.p50_ms, "latency_ms_p99": timing.p99_ms} for timing in timings
    }
    engine = f"{timings[0].engine}, {timings[0].threads} thread, in turns" if timings else ""
    return {name: final | latest.get(name, {}) for name, _, final in jobs}, engine


def front(points: Mapping[Path, Sequence[float]]) -> list[Path]:
    """The Pareto front of points, the higher the better: those that no other point is at least as good as in all."""

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))

    return [name for name, point in points.items() if not any(beats(other, point) for other in points.values())]


@dataclass
class Point:
    """One finished run in the plot."""

    name: str
    """`<number>_<what it varies>`."""
    top1: float
    latency_ms: float
    size_mb: float


def points(finals: Mapping[str, dict[str, Any]]) -> list[Point]:
    """Name → final numbers of runs as points, of those that were exported and measured."""
    return [
        Point(name, final["top1"], final["latency_ms_p50"], final["size_mb"])
        for name, final in finals.items()
        if "latency_ms_p50" in final
    ]


def plot(found: Sequence[Point], path: Path) -> None:
    """Draw top-1 over latency; the area of a point is its file's size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 5))
    largest = max(point.size_mb for point in found)
    colors = plt.get_cmap("tab10")
    for number, point in enumerate(found):
        area = 40 + 600 * point.size_mb / largest
        panel.scatter(point.latency_ms, point.top1, s=area, color=colors(number % 10), alpha=0.65)
        panel.annotate(
            point.name.partition("_")[0], (point.latency_ms, point.top1), ha="center", va="center", fontsize=8
        )
    panel.set(
        xlabel="latency at batch 1, ms (median)",
        ylabel="test top-1",
        title="accuracy and latency; area: size of the file",
    )
    panel.grid(alpha=0.3)
    panel.margins(0.15)
    # Markers of one size: the areas are in the plot.
    handles = [
        plt.Line2D([], [], marker="o", linestyle="", color=colors(number % 10), label=point.name.replace("_", ": ", 1))
        for number, point in enumerate(found)
    ]
    panel.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
