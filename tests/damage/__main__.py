"""Every file of a complete run, every kind of damage, every verb: what ends in a traceback, a wrong result or a gap.

    python -m tests.damage [--processes N] [--only TEXT] [--sample N] [--seed N]

Prints a table, and ends with exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

from tests import conftest  # noqa: F401  The number of threads is set before Paddle is imported.

from . import cases

#: What the verbs import.
PRELOADED = (
    "runner.worker.__main__", "runner.worker.finished", "mlflow", "onnxruntime", "paddleslim", "paddle.vision",
    "scipy.stats", "matplotlib.pyplot", "hydra", "rich.table", "jinja2",
)  # fmt: skip


def main() -> int:
    """Run the matrix."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--sample", type=int, help="so many of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        preload()
        cases.fixture(folder)
        everything = cases.all_cases(folder)
        chosen = [case for case in everything if options.only in f"{case.file}, {case.damage}, {case.verb}"]
        if options.sample:
            chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
        defects = run(folder, chosen, options.processes)
    print(f"{'verb':12}{'cases':>8}{'defects':>9}")
    counts, bad = Counter(case.verb for case in chosen), Counter(case.verb for case in defects)
    for verb in counts:
        print(f"{verb:12}{counts[verb]:8}{bad[verb]:9}")
    print(f"{len(chosen)} cases, {len(defects)} defects, {time.monotonic() - begin:.0f} s")
    return bool(defects)


def preload() -> None:
    """Import what children share; not more: threads that a library starts at its import are not in them."""
    for name in PRELOADED:
        importlib.import_module(name)


def run(folder: Path, chosen: list[cases.Case], processes: int) -> dict[cases.Case, str]:
    """Case → what is wrong, of those where something is; each is printed as it is found."""
    whole = cases.whole_answers(folder)
    found = {}
    with get_context("fork").Pool(processes) as pool:
        defect = functools.partial(cases.defect, folder, whole=whole)
        for number, (case, wrong) in enumerate(zip(chosen, pool.imap(defect, chosen), strict=True), start=1):
            if number % 50 == 0:
                print(f"{number} of {len(chosen)} cases", file=sys.stderr, flush=True)
            if wrong:
                found[case] = wrong
                print(f"{case.file}, {case.damage}, {case.verb}: {wrong}", flush=True)
        # Ended by a signal, Paddle would print its own kind of traceback.
        pool.close()
        pool.join()
    return found


if __name__ == "__main__":
    sys.exit(main())
