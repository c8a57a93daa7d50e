"""Two processes of one thread against one of two threads: speed, and the time to the first step.

    python -m benchmarks.scaling [--rounds N]

Both train the same network with the same batches of 128 images of 32×32 pixels, with tracking on; in every round each
takes its turn, and so does the import of `paddle.distributed.launch`, with which others start their processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from . import harness

#: What is wanted: times the speed, and times the wait, of one process; a launcher's import may come on top of the wait.
MIN_SPEED, MAX_WAIT = 0.9, 1.3
STEPS, WARM_UP, LOG_EVERY, BATCH = 160, 40, 10, 128


def trained(count: int) -> tuple[float, float]:
    """(images/s, seconds from the command to the first step) of a run of some processes."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        began = time.time()
        harness.run([
            sys.executable, "-m", "runner", f"hydra.run.dir={directory}", f"launch.nproc_per_node={count}",
            "data=synthetic", f"data.train_images={BATCH * STEPS}", f"data.batch_size={BATCH}", "data.val_fraction=0",
            "data.test_images=64", "schedule.warmup_epochs=0", "train.epochs=1", f"train.log_every={LOG_EVERY}",
            f"train.threads={2 // count}", f"tracking.uri=sqlite:///{folder}/mlflow.db", "deploy.formats=[]",
        ])  # fmt: skip
        events = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
        logged = [event for event in events if "train/images_per_s" in event.get("values", {})]
        speeds = [event["values"]["train/images_per_s"] for event in logged if event["step"] > WARM_UP]
        return statistics.median(speeds), logged[0]["time"] - began


def imported() -> float:
    """Seconds that a process takes for the import of Paddle's launcher."""
    began = time.perf_counter()
    harness.run([sys.executable, "-c", "import paddle.distributed.launch"])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measured: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for count in measured:
        # The kernels are measured once per user and number of threads.
        trained(count)
    imports: list[float] = []
    for _ in range(options.rounds):
        imports.append(imported())
        for count, values in measured.items():
            values.append(trained(count))
    speeds, waits = (
        {count: [value[place] for value in values] for count, values in measured.items()} for place in (0, 1)
    )
    speed, wait = harness.ratio(speeds[2], speeds[1]), harness.ratio(waits[2], waits[1])
    allowed = [MAX_WAIT * alone + launcher for alone, launcher in zip(waits[1], imports, strict=True)]
    names = {1: "one process, two threads", 2: "two processes, one thread each"}
    rows = [[name, harness.spread(speeds[count]), harness.spread(waits[count], 2)] for count, name in names.items()]
    rows += [["ratio", f"{speed:.2f}", f"{wait:.2f}"]]
    rows += [["import paddle.distributed.launch", "", harness.spread(imports, 2)]]
    rows += [[f"{MAX_WAIT} × one process + the import", "", harness.spread(allowed, 2)]]
    harness.print_table(["", "images/s", f"seconds to step {LOG_EVERY}"], rows)
    if speed < MIN_SPEED or harness.ratio(waits[2], allowed) > 1:
        sys.exit(
            f"Out of bounds: at least {MIN_SPEED} times the speed, at most {MAX_WAIT} times the wait and a launcher's "
            "import."
        )


if __name__ == "__main__":
    main()
