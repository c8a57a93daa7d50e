"""What runs are compared by besides accuracy, and which of them no other one beats."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Column:
    """One number of a finished run, as a table shows it."""

    heading: str
    name: str
    """Its key among the run's final numbers."""
    unit: float
    """What it is divided by."""
    digits: int
    title: str
    """What it is, for an axis."""
    noise: float = 0.0
    """Two values that differ by at most this part are equal: measuring the same thing again differs by as much."""
    spread: str = ""
    """Key among the final numbers of how much measuring differed this time, as a part; the noise where it is more."""

    def value(self, final: dict[str, Any]) -> float | None:
        """The number in the column's unit; None where the run has none."""
        value = final.get(self.name)
        return None if value is None else value / self.unit

    def noise_in(self, finals: Iterable[Mapping[str, Any]]) -> float:
        """Part by which equal values differ, as these runs were measured."""
        spreads = [final[self.spread] for final in finals if self.spread in final]
        return max(self.noise, statistics.median(spreads)) if spreads else self.noise

    def text(self, final: dict[str, Any]) -> str:
        """The number as text; empty where the run has none."""
        value = self.value(final)
        return "" if value is None else f"{value:.{self.digits}f}"


#: Runs up to which all are measured side by side, seconds of each, and of all together.
MEASURED, SECONDS, ALTOGETHER = 100, 0.3, 12.0

PARAMS = Column("M parameters", "params", 1e6, 3, "parameters, millions")
MACS = Column("M MACs", "macs", 1e6, 2, "MACs of an image, millions")
SIZE = Column("MB", "size_mb", 1, 3, "size of the file, MB")
LATENCY = Column(
    "ms/image", "latency_ms_p50", 1, 2, "latency at batch 1, ms (median)", noise=0.05, spread="latency_spread"
)
#: What a sweep is compared by, besides accuracy.
COSTS = (PARAMS, MACS, SIZE, LATENCY)
#: Of runs that froze some of them.
TRAINABLE = Column("M trained", "trainable_params", 1e6, 3, "parameters that train, millions")
#: What integers make of a network: of runs that have such a file.
INTEGERS = (
    Column("int8 top-1", "int8_top1", 1, 4, "test top-1 of the int8 file"),
    Column("int8 Hamming loss", "int8_hamming_loss", 1, 4, "test Hamming loss of the int8 file"),
    Column("int8 agreement", "int8_agreement", 1, 4, "part of the test images with the trained network's class"),
)


def columns(finals: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """What a table of runs with these final numbers has beside their metrics."""
    names = set().union(*finals)
    return (*COSTS, *(column for column in (TRAINABLE, *INTEGERS) if column.name in names))


def measured(directories: Mapping[str, Path]) -> tuple[dict[str, dict[str, float]], str]:
    """Name → latencies of finished runs (name → directory), and what measured them.

    What a run measured at its own end says as much of the moment as of the network: here the recommended ONNX files of
    all runs are measured in turns. Where that cannot be done, or of more than `MEASURED`, nothing is returned, and the
    runs' own numbers stay.
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
    """The Pareto front of points, the higher the better: those that no other point is better than in one and as good in
    all. `noise` is the part by which equal values of each coordinate may differ, 0 where nothing is given.

    What is as good within noise as a point that is as good within noise as a third one need not be so beside that: only
    points of the front keep others from it.
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
