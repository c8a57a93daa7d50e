"""How long exported files take: latency and throughput, all measured in turns so that a busy machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import engines
from .manifest import OPENVINO, ExportedFile, Manifest, read

#: Turns that the seconds of a measurement are divided into, and calls that warm an engine up to a batch size.
TURNS, WARM_UP = 10, 3


@dataclass
class Entry:
    """A file to measure."""

    run: str
    """What its run is called in results."""
    folder: Path
    """Where it stands."""
    manifest: Manifest
    file: ExportedFile


@dataclass
class Timing:
    """What a file took at one batch size."""

    entry: Entry
    batch_size: int
    engine: str
    """With its version."""
    threads: int
    """CPU threads."""
    calls: int
    """How often it was measured."""
    p50_ms: float
    """Median milliseconds of a call."""
    p90_ms: float
    p99_ms: float
    images_per_s: float
    spread: float = 0.0
    """Standard deviation of the medians of the turns, as a part of the median."""

    @property
    def recommended(self) -> bool:
        """Whether the file is the one to deploy."""
        return self.entry.manifest.is_recommended(self.entry.file)


@dataclass
class Measurement:
    """One file at one batch size, while it is measured."""

    entry: Entry
    engine: engines.Engine
    images: np.ndarray
    seconds: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    """Calls before each turn."""

    def turn(self, seconds: float) -> None:
        """Measure for so long, at least one call, after one that brings back what other files drove out of caches."""
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

    def timing(self) -> Timing:
        """The outcome."""
        p50, p90, p99 = (1000 * float(np.percentile(self.seconds, part)) for part in (50, 90, 99))
        calls, size = len(self.seconds), len(self.images)
        rate = calls * size / sum(self.seconds)
        medians = [1000 * float(np.median(turn)) for turn in np.split(self.seconds, self.turns[1:])]
        spread = float(np.std(medians)) / p50
        return Timing(self.entry, size, self.engine.name, self.engine.threads, calls, p50, p90, p99, rate, spread)


def entries(run: str, folder: Path, formats: Collection[str] | None = None) -> list[Entry]:
    """The files of an export folder, of some formats or of all, in each engine that computes them.

    OpenVINO is optional: where it is not installed nothing is measured in it. Errors: CheckpointError.
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
    measurements = []
    for entry in files:
        engine = engines.open_(entry.folder, entry.file, threads)
        for size in batch_sizes:
            images = random.standard_normal((size, *entry.manifest.input_shape), dtype=np.float32)
            measurements.append(Measurement(entry, engine, images))
    for measurement in measurements:
        for _ in range(WARM_UP):
            measurement.engine(measurement.images)
    waiting = measurements
    while waiting:
        for measurement in waiting:
            measurement.turn(seconds / TURNS)
        waiting = [measurement for measurement in waiting if sum(measurement.seconds) < seconds]
    return [measurement.timing() for measurement in measurements]


def speedups(timings: Sequence[Timing]) -> list[float | None]:
    """How many times as fast each is as the first run's first float32 file in the same engine at that batch size.

    None where that run has no such file.
    """
    base: dict[tuple[str, int], float] = {}
    for timing in timings:
        if timing.entry.run == timings[0].entry.run and timing.entry.file.precision == "float32":
            base.setdefault((timing.engine, timing.batch_size), timing.p50_ms)
    references = [base.get((timing.engine, timing.batch_size)) for timing in timings]
    return [first and first / timing.p50_ms for first, timing in zip(references, timings, strict=True)]


def metrics(timings: Sequence[Timing]) -> dict[str, float]:
    """What a run's final metrics say of its recommended file, at batch size 1; empty where that was not measured."""
    for timing in timings:
        if timing.recommended and timing.batch_size == 1:
            return {
                "latency_ms_p50": timing.p50_ms,
                "latency_ms_p99": timing.p99_ms,
                "images_per_s": timing.images_per_s,
                "size_mb": timing.entry.file.bytes / 1e6,
            }
    return {}
