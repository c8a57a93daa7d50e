"""Processes measured in turns, and what the numbers of a table are made of."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import runs
from runner.report import comparisons
from runner.runs.journal import RESULT

ROOT = Path(__file__).parent.parent
RESUME = "checkpoint.resume=auto"


@dataclass
class Done:
    """What a process left behind."""

    output: str
    memory_mb: float
    """Largest resident size of the process and of its children, whichever was larger."""
    cpu_s: float
    """Seconds of CPU time."""

    @property
    def result(self) -> dict[str, float]:
        """The JSON object of its last line."""
        return json.loads(self.output.strip().splitlines()[-1])


def run(command: Sequence[str], environment: dict[str, str] | None = None, folder: Path = ROOT) -> Done:
    """Run a command that must succeed in a folder, with as many threads as there are cores."""
    threads = str(os.cpu_count())
    own = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | (environment or {})
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=own, cwd=folder)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()[-4000:]}")
        return Done(output.read(), usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def train(directory: Path, overrides: Sequence[str]) -> None:
    """A run of the command in a directory, unless the same one is there; goes on with one that was interrupted.

    Exits if it fails, or another one is there.
    """
    has_ended = (directory / RESULT).exists()
    stored = [override for override in runs.overrides(directory) if override != RESUME]
    if (stored or has_ended) and stored != list(overrides):
        changed = " ".join(sorted(set(overrides) ^ set(stored)))
        sys.exit(f"{directory} has another run, which differs in {changed}. Keep these elsewhere: --keep DIR")
    if has_ended:
        return
    run([sys.executable, "-m", "runner", *overrides, RESUME, f"hydra.run.dir='{directory}'"], {"PYTHONPATH": str(ROOT)})


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and the smallest and largest value."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of what was measured one after the other."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def behind(scores: comparisons.Scores) -> dict[str, str]:
    """How far each row is below the best one, and whether that is noise; scores: row → seed → higher is better."""
    differences, said = comparisons.behind(scores), {}
    for row in scores:
        difference = differences.get(row)
        said[row] = "best" if row not in differences else "one seed says nothing"
        if difference:
            said[row] = f"{rounded(difference.mean, 4)} ({'real' if difference.is_real else 'noise'})"
    return said


def rounded(value: float, digits: int) -> str:
    """A number with so many decimals; what rounds to zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    print("| " + " | ".join(headings) + " |")
    print("|" + "|".join("---" if number == 0 else "---:" for number in range(len(headings))) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
