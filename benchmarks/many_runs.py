"""How long a person waits for lists and reports of many runs, and what they need of memory.

    python -m benchmarks.many_runs [--runs 1000] [--points 60] [--lines 1000000]

A sweep of so many finished runs, over 5 seeds, is written in the real format, with journals of so many training
points, and one run that was stopped, whose journal has `--lines` of them. Megabytes are the largest resident size.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from runner import files
from runner.cli import compose
from runner.cli.config_dir import config_dir
from runner.config import store
from runner.runs import sweep
from runner.runs.journal import CHECKPOINTS, CONFIG, JOURNAL, MISTAKES, OVERRIDES, PER_CLASS, RANKS, RESULT

from . import harness

#: What is promised of a thousand runs: seconds of `runs` and `report`, and megabytes of `report`.
MAX_RUNS_S, MAX_REPORT_S, MAX_REPORT_MB = 3, 20, 500
SEEDS, CLASSES, EPOCHS = 5, 10, 10
#: Of a journal of any length: megabytes for each of its uses.
MAX_LONG_MB = 500


def line(event: str, seconds: float, **fields: object) -> str:
    """A line of a journal."""
    return files.to_json({"event": event, "time": seconds, **fields}) + "\n"


def journal(points: int, seed: int, ends: bool) -> Iterator[str]:
    """The lines of the journal of a run with so many training points and a validation an epoch."""
    draw, began = random.Random(seed), 1.7e9 + seed
    profile = {"train": 45_000, "val": 5_000, "test": 10_000, "classes": CLASSES}
    yield line("started", began, command=[])
    yield line("tags", began, values={"device": "cpu", "parameters": "1"})
    yield line("dataset", began, name="digits", digest="0", source="digits", profile=profile)
    for step in range(1, points + 1):
        loss = 2.3 / step**0.3 + draw.gauss(0, 0.02)
        epoch = step * EPOCHS // points
        values = {"train/loss": loss, "train/loss/ce/student": loss, "train/top1": 1 - loss / 2.3, "train/lr": 0.1}
        yield line("metrics", began + step, step=step, epoch=epoch, values=values)
        if step % max(1, points // EPOCHS) == 0:
            top1 = 1 - loss / 2.5
            values = {f"val/student/{name}": top1 for name in ("top1", "top5", "macro_f1", "mcc")}
            values |= {"val/student/loss": loss}
            yield line("metrics", began + step, step=step, epoch=epoch, values=values)
            yield line("checkpoint", began + step, name=f"step-{step:08}", better=True)
    if ends:
        yield line("ended", began + points, status="FINISHED", reason="", exit_code=0)


def write_journal(folder: Path, points: int, seed: int, ends: bool) -> None:
    """Write a journal, however long, in little memory: what a process had is counted for those that it starts."""
    with (folder / JOURNAL).open("w") as stream:
        stream.writelines(journal(points, seed, ends))


def write_run(folder: Path, config: str, overrides: list[str], points: int, seed: int) -> None:
    """A finished run as far as lists and reports look at it."""
    for name in (CHECKPOINTS, RANKS):
        (folder / name).mkdir(parents=True)
    draw = random.Random(seed)
    top1 = 0.9 + draw.gauss(0, 0.01)
    final = {"top1": top1, "top5": 0.99, "macro_f1": top1, "mcc": top1, "params": 1e6 + seed, "macs": 1e7 + seed}
    result = {
        "final": final | {"size_mb": 1.0 + seed / 1e4, "latency_ms_p50": 1.0 + draw.random()}, "test": {"top1": top1},
        "monitor": "val/student/top1", "best": top1 + 0.01, "seconds": 60.0, "exported": "model.onnx",
    }  # fmt: skip
    confusion = [[10] * CLASSES] * CLASSES
    names = [f"class {number}" for number in range(CLASSES)]
    per_class = {"classes": names, "student": {"top1": [top1] * CLASSES, "confusion": confusion}}
    tracked = {"key": "k", "uri": "sqlite:///x.db", "run_id": f"{seed:032x}", "experiment_id": "1", "offset": 0}
    (folder / CONFIG).write_text(config)
    (folder / OVERRIDES).write_text(yaml.safe_dump(overrides))
    write_journal(folder, points, seed, ends=True)
    (folder / RESULT).write_text(json.dumps(result))
    (folder / PER_CLASS).write_text(json.dumps(per_class))
    (folder / MISTAKES).write_text(json.dumps({"images": 10_000, "wrong": 900, "worst": []}))
    (folder / "mlflow.json").write_text(json.dumps(tracked | {"params_sent": True, "ended": True}))


def write_sweep(folder: Path, runs: int, points: int) -> None:
    """A sweep of so many runs: learning rates, each with all seeds."""
    folder.mkdir(parents=True)
    (folder / sweep.SWEEP).write_text(json.dumps({"id": "00000000-000000", "overrides": [], "shared": ["mode=cls"]}))
    compose.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        store.write(store.from_composition(hydra_compose("config", [])), folder / "config.of")
    text = (folder / "config.of").read_text()
    (folder / "config.of").unlink()
    for number in range(runs):
        rate, seed = 0.001 * (1 + number // SEEDS), number % SEEDS
        overrides = ["mode=cls", f"optimizer.lr={rate:g}", f"train.seed={seed}"]
        name = folder / f"{number}_optimizer.lr-{rate:g}_train.seed-{seed}"
        write_run(name, text.replace("\n  seed: 0\n", f"\n  seed: {seed}\n", 1), overrides, points, number)


#: What a long journal is read for. Of MLflow's points, SQLite takes some thousands a second.
USES = {
    "listed": "from runner.cli.verbs.runs import describe; describe(Path(sys.argv[1]))",
    "drawn": "from runner.report import subject; subject.read(Path(sys.argv[1]), '1', 'run').curves",
    "resumed": (
        "from runner.runs.journal import Journal; Journal(Path(sys.argv[1])).continue_from(int(sys.argv[2]) - 9)"
    ),
    "sent as CSV": (
        "from runner.config import Config, Csv; from runner.tracking.tracker import build; "
        "build(Path(sys.argv[1]), Config(), 'csv', Csv(), print).replay()"
    ),
    "sent to TensorBoard": (
        "from runner.config import Config, TensorBoard; from runner.tracking.tracker import build; "
        "build(Path(sys.argv[1]), Config(), 'tensorboard', TensorBoard(), print).replay()"
    ),
    "sent to MLflow": (
        "from runner.config import Config, Mlflow; from runner.tracking.tracker import build; "
        "build(Path(sys.argv[1]), Config(), 'mlflow', Mlflow(uri=f'sqlite:///{sys.argv[1]}/mlflow.db'), print).replay()"
    ),
}


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds of CPU time and megabytes of a Python process: how busy a machine is does not count."""
    done = harness.run([sys.executable, *arguments])
    return done.cpu_s, done.memory_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keep", metavar="FOLDER", help="write everything there, and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        if not (folder / "sweep").exists():
            write_sweep(folder / "sweep", options.runs, options.points)
        of = {
            "runs": measured("-m", "runner", "runs", str(folder / "sweep")),
            "report": measured("-m", "runner", "report", str(folder / "sweep")),
        }
        page = (folder / "sweep" / sweep.REPORT).stat().st_size / 1e6
        rows = [[name, f"{options.runs:,} runs", f"{took:.1f}", f"{size:.0f}"] for name, (took, size) in of.items()]
        if options.lines:
            long = folder / "long"
            if not long.exists():
                write_run(long, (next((folder / "sweep").glob("*/")) / CONFIG).read_text(), [], 10, 0)
                write_journal(long, options.lines, 0, ends=False)
                (long / "mlflow.json").unlink()
            for name, use in USES.items():
                took, size = measured(
                    "-c", f"import sys; from pathlib import Path; {use}", str(long), str(options.lines)
                )
                rows.append([f"one run, {name}", f"{options.lines:,} lines", f"{took:.1f}", f"{size:.0f}"])
        harness.print_table(["", "of", "CPU s", "MB"], rows)
        print(f"The page has {page:.1f} MB.")
    (runs_s, _), (report_s, report_mb) = of.values()
    slow = runs_s > MAX_RUNS_S or report_s > MAX_REPORT_S or report_mb > MAX_REPORT_MB
    if slow or any(float(row[-1]) > MAX_LONG_MB for row in rows[2:]):
        sys.exit(
            f"Out of bounds: {MAX_RUNS_S} s, {MAX_REPORT_S} s, {MAX_REPORT_MB} MB; a long journal {MAX_LONG_MB} MB."
        )


if __name__ == "__main__":
    main()
