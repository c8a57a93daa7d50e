"""What each part costs for each image, line, run, job and point: the constants behind docs/scale.md.

    python -m benchmarks.scale

Each is measured at two sizes where it could grow faster than the size; times are of the processor. About a minute.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from . import harness
from .many_runs import JOURNAL, write_journal, write_sweep

#: Points of a call of MLflow's, and calls.
POINTS, CALLS = 1000, 10


def seconds(function: Callable[[], object]) -> float:
    """Processor seconds of a call in this process."""
    began = time.process_time()
    function()
    return time.process_time() - began


def epoch_order(images: int) -> tuple[float, float]:
    """Bytes and nanoseconds that the order of an epoch takes for each image."""
    from runner.data.samplers import epoch_order as order

    made: list[np.ndarray] = []
    took = seconds(lambda: made.append(order(0, 0, images)))
    return made[0].nbytes / images, 1e9 * took / images


def shard_index(folder: Path, images: int) -> tuple[float, float]:
    """Bytes in memory, and on the disk, that the index of a shard takes for each image."""
    from runner.data import shard_index as indices
    from runner.data.classes import Problems

    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for number, (suffix, data) in itertools.product(
            range(images), (("png", content.getvalue()), ("cls", b"7"))
        ):  # fmt: skip
            member = tarfile.TarInfo(f"{number:08d}.{suffix}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    index = indices.load(str(folder / "shard.tar"), "image", "label", Problems())
    stored = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    return sum(array.nbytes for array in index.arrays().values()) / images, stored / images


def journal_lines(folder: Path, lines: int) -> tuple[float, float]:
    """Bytes of a line, and microseconds of reading one."""
    from runner.runs.journal import events

    write_journal(folder, lines, 0, ends=True)
    counted: list[int] = []
    took = seconds(lambda: counted.append(sum(1 for _ in events(folder))))
    return (folder / JOURNAL).stat().st_size / counted[0], 1e6 * took / counted[0]


def listed(folder: Path, runs: int) -> float:
    """Milliseconds of listing a run."""
    write_sweep(folder, runs, points=60)
    took = [
        harness.run([sys.executable, "-m", "runner", "runs", str(place), "--json"]).cpu_s
        for place in (folder, next(folder.glob("0_*")))
    ]
    return 1000 * (took[0] - took[1]) / (runs - 1)


def mlflow_points(folder: Path) -> tuple[float, float]:
    """Points a second that an embedded store takes in calls of a thousand, and bytes of each."""
    from mlflow.entities import Metric

    from runner.tracking import server

    path = folder / "mlflow.db"
    client = server.connect(f"sqlite:///{path}", make=True)
    experiment = client.create_experiment("scale")
    run_id = client.create_run(experiment).info.run_id
    before, began = path.stat().st_size, time.perf_counter()
    for call in range(CALLS):
        client.log_batch(run_id, metrics=[Metric(f"m/{n % 10}", n / 7, call, POINTS * call + n) for n in range(POINTS)])
    return POINTS * CALLS / (time.perf_counter() - began), (path.stat().st_size - before) / (POINTS * CALLS)


def checkpoint(folder: Path) -> tuple[float, float]:
    """Bytes a parameter of a checkpoint of the default network with AdamW, and microseconds of writing one."""
    code = (
        "import json, sys, time; from pathlib import Path; import runner; "
        "run = runner.train('+debug=fast_dev_run', 'tracking=none', 'deploy.formats=[]', 'train.plots=false', "
        "f'hydra.run.dir={sys.argv[1]}'); "
        "last = (run.directory / 'checkpoints' / 'last').read_text().strip(); "
        "folder = run.directory / 'checkpoints' / last; "
        "final = json.loads((run.directory / 'result.json').read_text())['final']; "
        "print(json.dumps([sum(p.stat().st_size for p in folder.iterdir()), final['params']]))"
    )
    size, parameters = json.loads(
        harness.run([sys.executable, "-c", code, str(folder / "run")]).output.strip().splitlines()[-1]
    )
    content = b"0" * size
    began = time.perf_counter()
    with (folder / "written").open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return size / parameters, 1e6 * (time.perf_counter() - began) / parameters


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for images in (1_000_000, 10_000_000):
            size, nanoseconds = epoch_order(images)
            rows.append(["order of an epoch, an image", f"{images:,}", f"{size:.0f} B", f"{nanoseconds:.0f} ns"])
        memory, disk = shard_index(folder, 20_000)
        rows.append(["index of shards, an image", "20,000", f"{memory:.0f} B in memory, {disk:.0f} B stored", ""])
        for lines in (10_000, 100_000):
            size, microseconds = journal_lines(folder, lines)
            rows.append(["journal, a line", f"{lines:,}", f"{size:.0f} B", f"{microseconds:.0f} µs to read"])
        rows.append(["`runner runs`, a run", "200", "", f"{listed(folder / 'sweep', 200):.1f} ms"])
        size, written = checkpoint(folder)
        rows.append(
            ["checkpoint, a parameter (AdamW)", "default network", f"{size:.1f} B", f"{1000 * written:.0f} ns, fsynced"]
        )
        rate, size = mlflow_points(folder)
        rows.append(
            ["MLflow in SQLite, a point", f"{POINTS * CALLS:,}", f"{size:.0f} B", f"{1e6 / rate:.0f} µs to send"]
        )
    harness.print_table(["what", "measured with", "takes", "in"], rows)


if __name__ == "__main__":
    main()
