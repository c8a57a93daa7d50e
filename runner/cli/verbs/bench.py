"""Comparing exported networks: size, latency and throughput side by side."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ... import runs, terminal
from ...deploy import bench
from ...deploy.manifest import EXPORT
from ...errors import ConfigError
from ...files import refuse_links, to_json
from ...runs.journal import CONFIG
from ...terminal import screen
from ...tracking import lookup
from . import sync
from .arguments import URI, add_uri, bounded, listed


def main(arguments: list[str]) -> int:
    """`bench RUN… [--batch 1,8,32] [--threads N] [--seconds S] [--format FORMAT] [--uri URI] [--json]`."""
    parser = argparse.ArgumentParser(
        prog="runner bench",
        description="Measure the exported files of runs in turns. A run's journal and MLflow get the latency of its "
        "recommended file at batch size 1.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories or MLflow run ids")
    sizes, threads, seconds = listed(bounded(int, 1, 4096)), bounded(int, 1, 1024), bounded(float, 0.01, 3600)
    parser.add_argument("--batch", type=sizes, default=[1, 8, 32], metavar="N,…", help="images a call (1,8,32)")
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help="CPU threads (%(default)s)")
    parser.add_argument(
        "--seconds", type=seconds, default=1.0, metavar="S", help="for each file and batch size (%(default)s)"
    )
    parser.add_argument("--format", choices=("onnx", "paddle"), help="only files of this format")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    add_uri(parser)
    options = parser.parse_args(arguments)
    directories = {run: lookup.exported(run, options.uri, URI) for run in options.runs}
    files = [entry for run, directory in directories.items() for entry in _entries(run, directory, options.format)]
    # Paddle's OpenMP lets its threads spin for 200 ms after a call. In turns with others, on 2 cores with 2 threads,
    # Paddle's own calls took 1.5 to 1.8 times as long with that.
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    timings = bench.measure(files, options.batch, options.seconds, options.threads)
    if options.json:
        for row in map(describe, timings, bench.speedups(timings)):
            print(to_json(row))
    else:
        show(timings)
    # Messages about the delivery are not JSON.
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        for run, directory in directories.items():
            numbers = bench.metrics([timing for timing in timings if timing.entry.run == run])
            _publish(run, directory, numbers, options.threads)
    return 0


def _publish(run: str, directory: Path, numbers: dict[str, float], threads: int) -> None:
    """Add a run's latency to its results, if it was measured with as many threads as those."""
    config = runs.groups_of(directory, "deploy") if (directory / CONFIG).is_file() else {}
    own = config["deploy"].threads if config else threads
    if numbers and own != threads:
        reason = f"its results are of {terminal.counted(own, 'thread')} (deploy.threads)"
        print(f"{run}: only printed, since {reason}. To measure those again: --threads {own}", file=sys.stderr)
        return
    sync.add_results(directory, numbers)


def _entries(run: str, directory: Path, format: str | None) -> list[bench.Entry]:
    refuse_links(directory)
    entries = bench.entries(run, directory / EXPORT, format and [format])
    if not entries:
        wanted = f"in the format {format}" if format else "with an engine"
        raise ConfigError(f"{run} has no file {wanted}. Write one: {terminal.command('export', run)}")
    return entries


def describe(timing: bench.Timing, speedup: float | None) -> dict[str, Any]:
    """A timing and its file's properties, for JSON."""
    described, file = timing.entry.manifest, timing.entry.file
    return {
        "run": timing.entry.run, "network": described.network, "model": described.model,
        "compression": described.compression, "path": file.path, "format": file.format, "precision": file.precision,
        "recommended": timing.recommended, "engine": timing.engine, "threads": timing.threads,
        "params": described.params, "macs": described.macs, "bytes": file.bytes, "top1": file.top1,
        "agreement": file.agreement, "batch": timing.batch_size, "calls": timing.calls, "latency_ms_p50": timing.p50_ms,
        "latency_ms_p90": timing.p90_ms, "latency_ms_p99": timing.p99_ms, "images_per_s": timing.images_per_s,
        "speedup": speedup, "disturbed": timing.is_disturbed,
    }  # fmt: skip


def show(timings: Sequence[bench.Timing]) -> None:
    """Print the timings as a table, and which engines computed."""
    several = len({id(timing.entry) for timing in timings}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "file", "engine", "precision"):
        table.add_column(heading, overflow="fold")
    for heading in ("params", "MACs", "MB", "top-1", "agreement", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s"):
        table.add_column(heading, justify="right")
    if several:
        table.add_column("speed", justify="right")
    last: bench.Entry | None = None
    for timing, speedup in zip(timings, bench.speedups(timings), strict=True):
        cells = [""] * 9 if timing.entry is last else _about(timing)
        cells += [str(timing.batch_size), *(f"{value:.2f}" for value in (timing.p50_ms, timing.p90_ms, timing.p99_ms))]
        cells += [f"{timing.images_per_s:,.0f}", *([f"{speedup:.2f} ×" if speedup else ""] if several else [])]
        table.add_row(*cells)
        last = timing.entry
    console = screen()
    console.print(table)
    if several:
        console.print("speed: times as fast as the first run's float32 file in the same engine at that batch size")
    if disturbed := [timing for timing in timings if timing.is_disturbed]:
        files = dict.fromkeys(f"{timing.entry.run} {timing.entry.file.path}" for timing in disturbed)
        speeds = " Until then speed compares the fastest tenth of the calls." if several else ""
        console.print(
            f"note: the machine was busy while {', '.join(files)} was measured: calls took far longer than the median. "
            f"Measure again.{speeds}",
            soft_wrap=True,
        )
    threads = timings[0].threads
    for format, engine in dict.fromkeys((timing.entry.file.format, timing.engine) for timing in timings):
        console.print(f"{format}: {engine}, {terminal.counted(threads, 'thread')}")


def _about(timing: bench.Timing) -> list[str]:
    described, file = timing.entry.manifest, timing.entry.file
    shares = ("" if share is None else f"{share:.4f}" for share in (file.top1, file.agreement))
    numbers = (f"{value / 1e6:.2f} M" for value in (described.params, described.macs))
    return [
        timing.entry.run,
        file.path,
        file.engine or "",
        file.precision,
        *numbers,
        f"{file.bytes / 1e6:.2f}",
        *shares,
    ]
