"""Benchmarks of exported files: latency and throughput, measured in turns so that a busy machine affects all alike."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import engines
from .manifest import OPENVINO, ExportedFile, Manifest, read

#: Turns of a measurement, and warm-up calls of an engine at each batch size.
TURNS, WARM_UP = 10, 3
#: A 90th percentile, and a mean, of so many medians are of a machine that had other work.
BUSY_P90, BUSY_MEAN = 2.0, 1.5


@dataclass
class Entry:
    """A file to measure."""

    run: str
    """The name of its run in results."""
    folder: Path
    """The folder that contains it."""
    manifest: Manifest
    file: ExportedFile


@dataclass
class Timing:
    """The measured time of a file at one batch size."""

    entry: Entry
    batch_size: int
    engine: str
    """With its version."""
    threads: int
    """CPU threads."""
    calls: int
    """Number of measured calls."""
    p50_ms: float
    """Median milliseconds of a call."""
    p90_ms: float
    p99_ms: float
    images_per_s: float
    p10_ms: float
    """As long as a call takes while nothing else computes."""
    spread: float = 0.0
    """Standard deviation of the medians of the turns, as a fraction of the median."""

    @property
    def recommended(self) -> bool:
        """Whether the file is the one to deploy."""
        return self.entry.manifest.is_recommended(self.entry.file)

    @property
    def is_disturbed(self) -> bool:
        """Whether the machine had other work: slow calls are far above the median, or the mean contradicts it."""
        mean_ms = 1000 * self.batch_size / self.images_per_s
        return self.p90_ms > BUSY_P90 * self.p50_ms or mean_ms > BUSY_MEAN * self.p50_ms


@dataclass
class Measurement:
    """The measurement of one engine with images of one batch size."""

    engine: engines.Engine
    images: np.ndarray
    seconds: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    """Number of calls before each turn."""

    def warm_up(self) -> None:
        """The first calls, which are not measured."""
        for _ in range(WARM_UP):
            self.engine(self.images)

    def turn(self, seconds: float) -> None:
        """Measure for `seconds`, at least one call, after a warm-up call that refills caches other files have used."""
        self.engine(self.images)
        self.turns.append(len(self.seconds))
        end = time.perf_counter() + seconds
        while True:
            begin = time.perf_counter()
            self.engine(self.images)
            now = time.perf_counter()
            self.seconds.append(now - begin)
            if now >= end:
                return

    def timing(self, entry: Entry) -> Timing:
        """The result, of the file that the engine has opened."""
        p10, p50, p90, p99 = (1000 * float(np.percentile(self.seconds, part)) for part in (10, 50, 90, 99))
        calls, size = len(self.seconds), len(self.images)
        rate = calls * size / sum(self.seconds)
        medians = [1000 * float(np.median(turn)) for turn in np.split(self.seconds, self.turns[1:])]
        spread = float(np.std(medians)) / p50
        return Timing(entry, size, self.engine.name, self.engine.threads, calls, p50, p90, p99, rate, p10, spread)


def entries(run: str, folder: Path, formats: Collection[str] | None = None) -> list[Entry]:
    """The files of an export folder, of some formats or of all, in each engine that can run them.

    OpenVINO is optional: it is skipped if it is not installed. Errors: CheckpointError.
    """
    described = read(folder)
    return [
        Entry(run, folder, described, file)
        for file in described.runnable
        if (formats is None or file.format in formats) and (file.engine != OPENVINO or engines.is_installed(OPENVINO))
    ]


def measure(
    files: Sequence[Entry], batch_sizes: Sequence[int] = (1,), seconds: float = 0.3, threads: int = 1
) -> list[Timing]:
    """Measure every file at every batch size, for `seconds` each, on random images.

    The timings are in the order of the files and, for each, of the batch sizes. Opening Paddle's files sets Paddle's
    number of threads for the whole process. Errors: ConfigError, CheckpointError for a file that cannot be opened.
    """
    random = np.random.default_rng(0)
    measurements: list[tuple[Entry, Measurement]] = []
    for entry in files:
        engine = engines.open_(entry.folder, entry.manifest, entry.file, threads)
        for size in batch_sizes:
            images = random.standard_normal((size, *entry.manifest.input_shape), dtype=np.float32)
            measurements.append((entry, Measurement(engine, images)))
    waiting = [measurement for _, measurement in measurements]
    for measurement in waiting:
        measurement.warm_up()
    while waiting:
        for measurement in waiting:
            measurement.turn(seconds / TURNS)
        waiting = [measurement for measurement in waiting if sum(measurement.seconds) < seconds]
    return [measurement.timing(entry) for entry, measurement in measurements]


def speedups(timings: Sequence[Timing]) -> list[float | None]:
    """Speed of each relative to the first run's first float32 file in the same engine at the same batch size.

    Ratios of medians; where one of the two was disturbed, of the tenth percentiles, which other work hardly changes.
    None if that run has no such file.
    """
    base: dict[tuple[str, int], Timing] = {}
    for timing in timings:
        if timing.entry.run == timings[0].entry.run and timing.entry.file.precision == "float32":
            base.setdefault((timing.engine, timing.batch_size), timing)
    references = [base.get((timing.engine, timing.batch_size)) for timing in timings]
    return [_ratio(first, timing) if first else None for first, timing in zip(references, timings, strict=True)]


def _ratio(first: Timing, timing: Timing) -> float:
    if first.is_disturbed or timing.is_disturbed:
        return first.p10_ms / timing.p10_ms
    return first.p50_ms / timing.p50_ms


def metrics(timings: Sequence[Timing]) -> dict[str, float]:
    """The metrics of a run's recommended file at batch size 1; empty if that was not measured."""
    for timing in timings:
        if timing.recommended and timing.batch_size == 1:
            return {
                "latency_ms_p50": timing.p50_ms,
                "latency_ms_p99": timing.p99_ms,
                "images_per_s": timing.images_per_s,
                "size_mb": timing.entry.file.bytes / 1e6,
            }
    return {}
