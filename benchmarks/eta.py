"""How right the time left is that a run shows: `python -m benchmarks.eta [--epochs N]`.

Trains the default network on the digits without a terminal and compares every line's time left with the time that
training really took from there on. Fails where one from a tenth of the run on is off by more than a fifth (of the last
three seconds nothing is asked). A machine whose speed changes meanwhile changes the result.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import harness

#: `1:05:09 left` or `5:09 left` behind `step 10/500`.
LINE = re.compile(r"step (\d+)/(\d+) .*?((?:\d+:)?\d+:\d\d) left")
LAST_S, BOUND = 3.0, 0.2


def main() -> None:
    """Print the errors and fail where one is too large."""
    parser = argparse.ArgumentParser(description="How right the time left is that a run shows.")
    parser.add_argument("--epochs", type=int, default=60)
    epochs = parser.parse_args().epochs
    said, end = lines(epochs)
    errors = [
        (part, abs(left - (end - now)) / (end - now), left, end - now)
        for part, left, now in said if part >= 0.1 and end - now > LAST_S
    ]  # fmt: skip
    harness.print_table(
        ["of the run", "said, s", "true, s", "off by"],
        [[f"{part:.0%}", f"{left:.0f}", f"{true:.1f}", f"{error:.0%}"] for part, error, left, true in errors],
    )
    worst = max(error for _, error, _, _ in errors)
    print(f"\nworst from a tenth of the run on: {worst:.0%}, allowed {BOUND:.0%}")
    sys.exit(worst > BOUND)


def lines(epochs: int) -> tuple[list[tuple[float, int, float]], float]:
    """(part of the run, seconds left as printed, when) of every line; when training ended."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["tracking=none", "deploy.formats=[]", f"train.epochs={epochs}", "hydra.run.dir=run"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", "runner", *options]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        said, end = [], 0.0
        for line in process.stdout:
            if found := LINE.search(line):
                seconds = 0
                for part in found[3].split(":"):
                    seconds = 60 * seconds + int(part)
                said.append((int(found[1]) / int(found[2]), seconds, time.monotonic()))
            if "val student" in line:
                end = time.monotonic()
        if process.wait():
            sys.exit("The run failed.")
    return said, end


if __name__ == "__main__":
    main()
