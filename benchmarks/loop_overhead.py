"""What the command costs beside a bare loop with the same layers and optimizer, both computing in turns of seconds.

    python -m benchmarks.loop_overhead [--only CASE …] [--log-every STEPS]

Both processes live at the same time and one of them is always stopped, so that each pair of turns sees the machine in
the same state: minutes apart, as in `training.py`, a neighbour of a shared machine makes more of a difference than the
command does. The runner has data set, shuffling, augmentation, metrics, journal, MLflow and progress; the bare loop has
one batch in memory. Speeds are medians of what began and ended within a turn; the ratio is the median over pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from runner import device

from . import harness
from .training import CASES, LOG_EVERY, Case, command, logged

#: Pairs of turns, and how long a turn is: at least so many seconds, and so many windows of the journal.
PAIRS, SECONDS, WINDOWS = 12, 2.0, 4
#: Bytes of images that a data set may have.
IMAGES = 600 << 20
#: What is promised of the first case.
MIN_RATIO = 0.98

#: (seconds since 1970 at the end, seconds it took, images/s)
Done = tuple[float, float, float]


def measure(case: Case, log_every: int) -> tuple[list[float], list[float]]:
    """images/s of runner and bare loop in each pair of turns."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ended:
        steps = IMAGES // (3 * case.side**2 * case.batch)
        trace = Path(folder) / "steps"
        given = json.dumps(asdict(case) | {"steps": steps, "trace": str(trace)})
        bare = ended.enter_context(
            started([sys.executable, "-m", "benchmarks.peers.run", "kernels", given], device.environment(None))
        )
        wait(bare, lambda: len(traced(trace)) > case.warm_up)
        bare.send_signal(signal.SIGSTOP)
        runner = ended.enter_context(started(command(case, folder, steps, log_every), {}))

        def by_runner() -> list[Done]:
            return [(end, log_every * case.batch / speed, speed) for end, speed in logged(folder)]

        def by_bare() -> list[Done]:
            return [(end, seconds, case.batch / seconds) for end, seconds in traced(trace)]

        wait(runner, lambda: len(by_runner()) > max(1, case.warm_up // log_every))
        group(runner, signal.SIGSTOP)
        turn = max(SECONDS, WINDOWS * by_runner()[-1][1])
        speeds: tuple[list[float], list[float]] = ([], [])
        for _ in range(PAIRS):
            for process, found, kept in ((runner, by_runner, speeds[0]), (bare, by_bare, speeds[1])):
                begin = time.time()
                group(process, signal.SIGCONT)
                time.sleep(turn)
                group(process, signal.SIGSTOP)
                if process.poll() is not None:
                    sys.exit(f"{case.name}: {process.args!r} ended too early.")
                kept.append(statistics.median(speed for end, took, speed in found() if end - took > begin))
        return speeds


@contextlib.contextmanager
def started(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children in a group of their own, which ends with the context."""
    process = subprocess.Popen(
        arguments, env=os.environ | environment, cwd=harness.ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        group(process, signal.SIGKILL)
        process.wait()


def group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def wait(process: subprocess.Popen[bytes], is_ready: Callable[[], bool], limit_s: float = 300) -> None:
    """Until it is, or the process has ended."""
    end = time.monotonic() + limit_s
    while not is_ready():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"{process.args!r} did not begin to train.")
        time.sleep(0.1)


def traced(trace: Path) -> list[tuple[float, float]]:
    """The steps of the bare loop so far: (seconds since 1970 at the end, seconds)."""
    lines = trace.read_text().split("\n")[:-1] if trace.exists() else []
    return [(float(end), float(seconds)) for end, seconds in map(str.split, lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="CASE", help="parts of the names of cases")
    parser.add_argument("--log-every", type=int, default=LOG_EVERY, metavar="STEPS", help="steps between two metrics")
    options = parser.parse_args()
    rows, missed = [], False
    for case in CASES:
        if options.only and not any(part in case.name for part in options.only):
            continue
        runner, bare = measure(case, options.log_every)
        ratios = [one / other for one, other in zip(runner, bare, strict=True)]
        rows.append([case.name, harness.spread(runner), harness.spread(bare), harness.spread(ratios, 2)])
        print(f"{case.name}: {statistics.median(ratios):.3f}", file=sys.stderr, flush=True)
        missed |= case is CASES[0] and statistics.median(ratios) < MIN_RATIO
    harness.print_table(["images/s", "runner", "bare loop with kernels", "ratio"], rows)
    if missed:
        sys.exit(f"Out of bounds: the command may cost at most {1 - MIN_RATIO:.0%} of the first case.")


if __name__ == "__main__":
    main()
