"""What the runner costs: its images/s and memory against a bare Paddle loop over the same model, batch and data.

    python benchmarks/loop_overhead.py [--rounds N]

The two run alternately, each in a process of its own: the runner as a user starts it (journal, metrics, checkpoints,
MLflow, data set and input pipeline), the bare loop over one batch that is in memory already. Both use the same
convolution kernels. Speeds are those of the training steps after the first ten; memory is the largest resident size of
a training process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS, WARM_UP, BATCH = 60, 10, 128
#: What is promised.
MIN_SPEED, MAX_MEMORY = 0.97, 1.15


def bare() -> None:
    """The loop a user would write, printing images/s and resident memory as JSON."""
    import numpy as np
    import paddle
    import paddle.nn.functional as F

    from runner.config import Size
    from runner.models import MobileNetV3, accelerate

    paddle.seed(0)
    network = MobileNetV3(Size.large, 0.5, 10, 0.2)
    accelerate(network)
    generator = np.random.default_rng(0)
    images = paddle.randn([BATCH, 3, 32, 32])
    labels = paddle.to_tensor(generator.integers(0, 10, BATCH))
    optimizer = paddle.optimizer.AdamW(0.002, parameters=network.parameters())
    network.train()
    for step in range(STEPS):
        if step == WARM_UP:
            began = time.perf_counter()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    float(loss)
    print(json.dumps({"images_per_s": BATCH * (STEPS - WARM_UP) / (time.perf_counter() - began)}))


def measured_bare() -> dict[str, float]:
    """One bare loop in a process of its own."""
    done, memory = _run([sys.executable, __file__, "--bare"])
    return json.loads(done.splitlines()[-1]) | {"memory_mb": memory}


def measured_runner() -> dict[str, float]:
    """One run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        _, memory = _run(
            [
                sys.executable, "-m", "runner", f"hydra.run.dir={directory}", "data=synthetic",
                f"data.train_images={BATCH * STEPS}", f"data.batch_size={BATCH}", "data.val_fraction=0",
                "data.test_images=128", "schedule.warmup_epochs=0", "train.epochs=1", f"train.log_every={WARM_UP}",
                f"tracking.uri=sqlite:///{folder}/mlflow.db", "deploy.formats=[]",
            ]
        )  # fmt: skip
        events = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
    speeds = [event["values"]["train/images_per_s"] for event in events if "train/loss" in event.get("values", {})]
    return {"images_per_s": statistics.harmonic_mean(speeds[1:]), "memory_mb": memory}


def _run(command: list[str]) -> tuple[str, float]:
    """(standard output, largest resident size in MB of the process and its children)."""
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            sys.exit(f"{command} failed:\n{errors.read()}")
        return output.read(), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        return bare()
    data_mb = BATCH * STEPS * 32 * 32 * 3 / 2**20
    rounds = []
    print("round  bare images/s  runner images/s  ratio  bare MB  runner MB")
    for number in range(1, options.rounds + 1):
        one, other = measured_bare(), measured_runner()
        ratio = other["images_per_s"] / one["images_per_s"]
        rounds.append((ratio, one, other))
        print(
            f"{number:5}  {one['images_per_s']:13.1f}  {other['images_per_s']:15.1f}  {ratio:5.3f}  "
            f"{one['memory_mb']:7.0f}  {other['memory_mb']:9.0f}",
            flush=True,
        )
    ratios = [ratio for ratio, _, _ in rounds]
    memory = [(other["memory_mb"] - data_mb) / one["memory_mb"] for _, one, other in rounds]
    print(f"median ratio of speed {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"median ratio of memory {statistics.median(memory):.3f} (the data, {data_mb:.0f} MB of bytes, taken off)")
    if statistics.median(ratios) < MIN_SPEED or statistics.median(memory) > MAX_MEMORY:
        sys.exit(f"Out of bounds: speed at least {MIN_SPEED}, memory at most {MAX_MEMORY} of the bare loop's.")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
