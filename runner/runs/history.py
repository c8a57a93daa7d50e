"""Learning curves, thinned while the journal is read: memory does not grow with the length of the run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .journal import events

#: Most points of a curve: more than a plot can show.
POINTS = 2000


@dataclass
class History:
    """Learning curves and data set of a run."""

    curves: dict[str, dict[int, float]]
    """Metric → step → value, in the order of the steps."""
    dataset: dict[str, Any]
    """The last event `dataset`; empty if there is none."""


def history(directory: Path, points: int = POINTS) -> History:
    """The curves, with the last value written if a step has several, and the data set. Errors: Damaged.

    A curve with more points is thinned to at most `points`: means of equally many neighbours, and the last point.
    """
    # Few journals have a point several times; all others are read only once.
    return _read(directory, points, None) or _read(
        directory, points, find_superseded(events(directory, kinds=("metrics",)))
    )  # type: ignore[return-value]


def _read(directory: Path, points: int, superseded: dict[tuple[str, int], int] | None) -> History | None:
    """As `history`; None if a point occurs several times and `superseded` does not say which one counts."""
    curves: dict[str, _Thinned] = {}
    dataset: dict[str, Any] = {}
    for event, offset in events(directory, kinds=("dataset", "metrics")):
        if event["event"] == "dataset":
            dataset = event
            continue
        step = event["step"]
        for name, value in event["values"].items():
            curve = curves.setdefault(name, _Thinned(points))
            if superseded is None and curve.last and step <= curve.last[0]:
                return None
            if not superseded or superseded.get((name, step), 0) <= offset:
                curve.add(step, value)
    return History({name: curve.points() for name, curve in curves.items()}, dataset)


def curves(directory: Path) -> dict[str, dict[int, float]]:
    """Metric → step → value, as `history` has them. Errors: Damaged."""
    return history(directory).curves


def find_superseded(read: Iterable[tuple[dict[str, Any], int]]) -> dict[tuple[str, int], int]:
    """(name, step) of points that may be in a journal several times → the offset after the last one.

    These are the points of a run that was resumed from before its end; of all others nothing is kept.
    """
    last: dict[str, int] = {}
    offsets: dict[tuple[str, int], int] = {}
    for event, offset in read:
        offsets |= {(name, event["step"]): offset for name in repeated(last, event)}
        note_steps(last, event)
    return offsets


def repeated(last: dict[str, int], event: dict[str, Any]) -> list[str]:
    """The metrics of an event that may have a point at this step already; `last`: name → its largest step."""
    if event["event"] != "metrics":
        return []
    return [name for name in event["values"] if event["step"] <= last.get(name, -1)]


def note_steps(last: dict[str, int], event: dict[str, Any]) -> None:
    """Note which steps the metrics of an event have come to."""
    if event["event"] == "metrics":
        last |= {name: max(event["step"], last.get(name, -1)) for name in event["values"]}


@dataclass
class _Thinned:
    """A curve while it is read: groups of neighbours, two of which become one whenever there are too many."""

    most: int
    """The most groups that there may be."""
    width: int = 1
    """Points in a group."""
    ends: list[int] = field(default_factory=list)
    """The last step of each group."""
    sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    last: tuple[int, float] | None = None
    """The point of the largest step, which is in no group."""

    def add(self, step: int, value: float) -> None:
        """Add a point; one at the step of the last point replaces it."""
        if self.last is None or step == self.last[0]:
            self.last = step, value
        elif step > self.last[0]:
            self._append(*self.last)
            self.last = step, value
        else:
            self._insert(step, value)

    def _append(self, step: int, value: float) -> None:
        if self.counts and self.counts[-1] < self.width:
            self.ends[-1] = step
            self.sums[-1] += value
            self.counts[-1] += 1
            return
        self._put(len(self.ends), step, value)

    def _insert(self, step: int, value: float) -> None:
        """Add a point of an attempt that resumed before the end of the previous one."""
        place = bisect_left(self.ends, step)
        if place == len(self.ends):
            self._append(step, value)
        elif self.width == 1 and self.ends[place] != step:
            self._put(place, step, value)
        else:
            self.sums[place] += value
            self.counts[place] += 1

    def _put(self, place: int, step: int, value: float) -> None:
        self.ends.insert(place, step)
        self.sums.insert(place, value)
        self.counts.insert(place, 1)
        if len(self.ends) > self.most:
            self.ends = [*self.ends[1::2], *self.ends[-1:]] if len(self.ends) % 2 else self.ends[1::2]
            self.sums, self.counts = _paired(self.sums), _paired(self.counts)
            self.width *= 2

    def points(self) -> dict[int, float]:
        """Step → value, rising."""
        means = [total / count for total, count in zip(self.sums, self.counts, strict=True)]
        return dict([*zip(self.ends, means, strict=True), *([self.last] if self.last else [])])


def _paired(numbers: list[Any]) -> list[Any]:
    """Sums of two neighbours each; the last of an odd number stays."""
    sums = [one + other for one, other in zip(numbers[::2], numbers[1::2], strict=False)]
    return sums + numbers[-1:] if len(numbers) % 2 else sums
