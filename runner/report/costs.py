"""The costs that runs are compared by besides accuracy, and their Pareto front."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Column:
    """One metric of a finished run, as a column of a table."""

    heading: str
    name: str
    """Its key among the run's final metrics."""
    unit: float
    """Divisor for display."""
    digits: int
    title: str
    """Title of an axis."""
    noise: float = 0.0
    """Relative measurement noise: values that differ by at most this fraction count as equal."""
    spread: str = ""
    """Key among the final metrics of the relative spread of this run's measurement; it replaces the noise if it is
    larger."""

    def value(self, final: dict[str, Any]) -> float | None:
        """The value in the column's unit; None if the run has none."""
        value = final.get(self.name)
        return None if value is None else value / self.unit

    def noise_in(self, finals: Iterable[Mapping[str, Any]]) -> float:
        """Relative noise of the column, as these runs were measured."""
        spreads = [final[self.spread] for final in finals if self.spread in final]
        return max(self.noise, statistics.median(spreads)) if spreads else self.noise

    def text(self, final: dict[str, Any]) -> str:
        """The value as text; empty if the run has none."""
        value = self.value(final)
        return "" if value is None else f"{value:.{self.digits}f}"


#: Most runs that are measured side by side; seconds for each, and for all together.
MEASURED, SECONDS, ALTOGETHER = 100, 0.3, 12.0

PARAMS = Column("M parameters", "params", 1e6, 3, "parameters, millions")
MACS = Column("M MACs", "macs", 1e6, 2, "MACs of an image, millions")
# Names of other lengths change a file by some bytes.
SIZE = Column("MB", "size_mb", 1, 3, "size of the file, MB", noise=0.01)
LATENCY = Column(
    "ms/image", "latency_ms_p50", 1, 2, "latency at batch 1, ms (median)", noise=0.05, spread="latency_spread"
)
#: The costs that a sweep is compared by, besides accuracy.
COSTS = (PARAMS, MACS, SIZE, LATENCY)
#: For runs with frozen parameters.
TRAINABLE = Column("M trained", "trainable_params", 1e6, 3, "parameters that train, millions")
#: Metrics of the recommended file itself, which is worth a column where it differs from the network.
EXPORTED = ("top1", "hamming_loss")
#: For runs that export an int8 file.
INTEGERS = (
    Column("int8 top-1", "int8_top1", 1, 4, "test top-1 of the int8 file"),
    Column("int8 Hamming loss", "int8_hamming_loss", 1, 4, "test Hamming loss of the int8 file"),
    Column("file top-1", "exported_top1", 1, 4, "test top-1 of the recommended file, which MB and ms/image are of"),
    Column("file Hamming loss", "exported_hamming_loss", 1, 4, "test Hamming loss of the recommended file"),
    Column("int8 agreement", "int8_agreement", 1, 4, "part of the test images with the trained network's class"),
)


def columns(finals: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a table of runs with these final metrics, besides their metrics."""
    finals = list(finals)
    names = set().union(*finals)
    for name in EXPORTED:
        if all(final.get(f"exported_{name}", final.get(name)) == final.get(name) for final in finals):
            names.discard(f"exported_{name}")
    return (*COSTS, *(column for column in (TRAINABLE, *INTEGERS) if column.name in names))


def measured(directories: Mapping[str, Path]) -> tuple[dict[str, dict[str, float]], str]:
    """Name → latencies of finished runs (name → directory), and the engine that they were measured in.

    A measurement at a run's own end depends on the load at that moment, so the recommended ONNX files of all runs are
    measured again, in turns. If that is not possible, or there are more than `MEASURED`, nothing is returned, and the
    runs' own measurements stand.
    """
    from ..deploy import bench
    from ..deploy.manifest import EXPORT, MANIFEST

    exports = {name: path / EXPORT for name, path in directories.items() if (path / EXPORT / MANIFEST).is_file()}
    if len(exports) > MEASURED:
        return {}, ""
    try:
        entries = [entry for name, folder in exports.items() for entry in bench.entries(name, folder, ["onnx"])]
        chosen = [entry for entry in entries if entry.manifest.is_recommended(entry.file)]
        timings = bench.measure(chosen, seconds=min(SECONDS, ALTOGETHER / max(1, len(chosen))))
    except UserError:
        timings = []
    latencies = {
        timing.entry.run: {
            "latency_ms_p50": timing.p50_ms,
            "latency_ms_p99": timing.p99_ms,
            LATENCY.spread: timing.spread,
        }
        for timing in timings
    }
    used = " and ".join(dict.fromkeys(timing.engine for timing in timings))
    return latencies, f"{used}, {timings[0].threads} thread, in turns" if timings else ""


def front(points: Mapping[Key, Sequence[float]], noise: Sequence[float] = ()) -> list[Key]:
    """The Pareto front, higher is better: points that no other one equals in all coordinates and beats in one.

    `noise`: the fraction by which equal values of each coordinate may differ, by default 0. Equality within noise is
    not transitive, so only points of the front exclude others from it.
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(itertools.zip_longest(one, other, noise, fillvalue=0.0))
        gains = [0.0 if abs(mine - its) <= part * abs(its) else mine - its for mine, its, part in pairs]
        return min(gains) >= 0 and max(gains) > 0

    kept: list[Key] = []
    for name in sorted(points, key=lambda name: tuple(points[name]), reverse=True):
        if not any(beats(points[other], points[name]) for other in kept):
            kept = [other for other in kept if not beats(points[name], points[other])] + [name]
    return [name for name in points if name in kept]


def undominated(
    finals: Sequence[Mapping[str, Any]], noise: Mapping[Column, float], scores: Sequence[float] = ()
) -> list[int]:
    """Which of some runs are on the Pareto front of their scores, higher is better, and of those costs that all have.

    `noise`: cost → the fraction by which equal ones may differ.
    """
    columns = [column for column in noise if all(final.get(column.name) for final in finals)]
    points = {
        number: [*scores[number : number + 1], *(-final[column.name] for column in columns)]
        for number, final in enumerate(finals)
    }
    if not columns and not scores:
        return [*points]
    return front(points, [*([0.0] if scores else []), *(noise[column] for column in columns)])
