"""What a small student reaches on Fashion-MNIST by what it follows of its teacher, in the same minutes or steps.

    python -m benchmarks.distillation [--rows LIST] [--seeds N] [--jobs N] [--minutes M | --epochs N]
        [--teacher RUN | --teacher-minutes M] [--keep DIR] [--quick] [key=value …]

A larger network is trained once and teaches all students but those that have peers or their own average; with
`--teacher` a finished run of a ResNet on the same images teaches them, and no teacher is trained. Each row is a student
from random weights with the same seeds, data and minutes of training: what the forward passes of a teacher, or the
training of a peer, take is paid in steps. With `--epochs` all have as many steps, and it is paid in minutes. Rows that
end with `_precomputed` have the teacher's logits computed once, before training, which counts in both.
Seeds that are trained at the same time have a thread each, so that only tables of the same `--jobs` compare. The last
column says which rows are behind the best one by more than noise (paired over seeds, 95 % for all pairs at once);
below the table stands what KD gains over labels, and features over KD. The images are fetched from a package
(`examples/real_sets.py`). `--quick` takes two seeds and a few steps of synthetic images: it shows that everything
runs, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from examples import real_sets
from runner.runs import result
from runner.runs.journal import RESULT

from . import harness

STUDENT, TEACHER = "mobilenet_v3_small_x0_35", ["model=resnet10_x0_5", "model.stem=small", "train.ema=0.999"]
KD = ["mimic=kd", "mimic.alpha=0.9"]
ONCE = "mode.precompute_logits=true"
LAYERS = ["features.layers=[conv2,conv4]", "features.peer_layers=[blocks.1,blocks.2]"]
HINTS = ["features=hint", *LAYERS]
#: Row → what the student follows.
ROWS = {
    "labels": [],
    "kd": KD,
    "kd_standardised": [*KD, "mimic.temperature=2", "mimic.standardize=true"],
    "dkd": ["mimic=dkd"],
    "dist": ["mimic=dist"],
    "kd_precomputed": [*KD, ONCE],
    "dkd_precomputed": ["mimic=dkd", ONCE],
    "dist_precomputed": ["mimic=dist", ONCE],
    "rkd": ["mimic=rkd"],
    "hints": ["~mimic", *HINTS],
    "attention_transfer": ["~mimic", "features=attention_transfer", *LAYERS],
    "rkd_features": ["~mimic", "features=rkd", *LAYERS],
    "kd_hints": [*KD, *HINTS],
    "dist_hints_at_first": [
        "mimic=dist", *HINTS, "features.ramp.start=1", "features.ramp.end=0", "features.ramp.epochs=2",
    ],
    "two_peers": ["mode=cls_distill", "mimic=dml"],
    "own_average": ["mode.average=true", "mimic=kl"],
}  # fmt: skip
#: Rows of students that follow no teacher.
UNTAUGHT = ("labels", "two_peers", "own_average")
#: Pairs of which the second is expected to be better.
LADDER = (("labels", "kd"), ("labels", "kd_precomputed"), ("kd", "kd_hints"), ("kd", "dist_hints_at_first"))
QUICK = [
    "data=synthetic", "data.train_images=48", "data.test_images=16", "data.batch_size=16", "train.epochs=2",
    "schedule.warmup_epochs=0", "train.threads=1",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {','.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=3)
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--minutes", type=float, default=5)
    limits.add_argument("--epochs", type=int, help="the same steps for all, instead of the same minutes")
    teacher_options = parser.add_mutually_exclusive_group()
    teacher_options.add_argument("--teacher", type=Path, metavar="RUN", help="folder of a finished run that teaches")
    teacher_options.add_argument("--teacher-minutes", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at the same time, one thread each")
    parser.add_argument("--keep", metavar="DIR", help="folder for the runs; those that are in it are not run again")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")
    options = parser.parse_intermixed_args()
    rows = options.rows.split(",")
    if unknown := sorted(set(rows) - set(ROWS)):
        parser.error(f"--rows {','.join(unknown)}: unknown. Valid: {','.join(ROWS)}")
    best = None
    if options.teacher and not (best := measured(options.teacher)):
        parser.error(f"--teacher {options.teacher}: this folder has no finished run with a top-1 accuracy")
    seeds = 2 if options.quick else options.seeds
    images = QUICK if options.quick else ["data=fashion_mnist", f"data.root='{real_sets.fashion_mnist()}'"]
    length, teachers_length = images, images
    if not options.quick:
        limit = f"train.epochs={options.epochs}" if options.epochs else f"train.max_minutes={options.minutes:g}"
        length, teachers_length = [*images, limit], [*images, f"train.max_minutes={options.teacher_minutes:g}"]
    thread = ["train.threads=1"] if options.jobs > 1 else []
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(options.keep or temporary).resolve()
        teacher = options.teacher.resolve() if options.teacher else folder / "teacher"
        if not set(rows) <= set(UNTAUGHT):
            best = best or trained(teacher, *TEACHER, *teachers_length, *options.overrides)
            print(f"teacher: test top-1 {best.top1:.4f} after {best.steps:,} steps", flush=True)
        # Runs of all rows in one queue: with a queue a row, its last seed would have the machine to itself.
        waiting = {
            (row, seed): pool.submit(
                trained, folder / f"{row}-{seed}", *student(row, teacher), *length, *thread, *options.overrides,
                f"train.seed={seed}",
            )
            for row in rows for seed in range(seeds)
        }  # fmt: skip
        students: dict[str, dict[int, Trained]] = {row: {} for row in rows}
        try:
            for (row, seed), run in waiting.items():
                students[row][seed] = run.result()
                print(f"{row}, seed {seed}: {students[row][seed].top1:.4f}", flush=True)
        finally:
            # Those behind a run that failed do not begin.
            pool.shutdown(cancel_futures=True)
    harness.print_table(
        ["student follows", "test top-1", "deviation over seeds", "steps", "seconds", "behind"], table(students)
    )
    scores = {row: {seed: one.top1 for seed, one in runs.items()} for row, runs in students.items()}
    for lower, higher in LADDER:
        if {lower, higher} <= scores.keys():
            print(f"\n{gain(scores, lower, higher)}", end="")
    print()


@dataclass(frozen=True)
class Trained:
    """What a run reached, and how long it was."""

    top1: float
    steps: int
    seconds: float


def student(row: str, teacher: Path) -> list[str]:
    """Overrides of a row's network and of what it follows."""
    mode = [] if row in UNTAUGHT else ["mode=cls_teacher", f"mode.teacher_from='{teacher}'"]
    return [f"model={STUDENT}", *mode, *ROWS[row]]


def gain(scores: dict[str, dict[int, float]], lower: str, higher: str) -> str:
    """What a row gains over another in top-1, paired by seed, and whether that is more than noise."""
    seeds = scores[higher].keys() & scores[lower].keys()
    mean = statistics.mean(scores[higher][seed] - scores[lower][seed] for seed in seeds)
    behind = harness.behind({name: scores[name] for name in (lower, higher)})
    verdict = next(
        (text.partition("(")[2].strip(")") for text in behind.values() if "(" in text), "one seed says nothing"
    )
    return f"{higher} over {lower}: {mean:+.4f} ({verdict})"


def table(students: dict[str, dict[int, Trained]]) -> list[list[str]]:
    """A line for each row: means, and how far it is behind the best and whether that is noise."""
    behind = harness.behind({row: {seed: one.top1 for seed, one in runs.items()} for row, runs in students.items()})
    lines = []
    for row, runs in students.items():
        reached = [one.top1 for one in runs.values()]
        deviation = statistics.stdev(reached) if len(reached) > 1 else 0.0
        means = (
            statistics.mean(values) for values in zip(*((one.steps, one.seconds) for one in runs.values()), strict=True)
        )
        lines.append(
            [
                row,
                f"{statistics.mean(reached):.4f}",
                f"{deviation:.4f}",
                *(f"{mean:,.0f}" for mean in means),
                behind[row],
            ]
        )
    return lines


def trained(directory: Path, *overrides: str) -> Trained:
    """The run in a directory, which is trained unless it was before."""
    where = ["tracking=none", "deploy.formats=[]", "train.plots=false"]
    harness.train(directory, [*where, *overrides])
    done = measured(directory)
    assert done
    return done


def measured(directory: Path) -> Trained | None:
    """What the run in a directory reached; None if it is not finished, or has no top-1 accuracy."""
    done = result.read(directory / RESULT, whole=True)
    if done is None or "top1" not in done.final:
        return None
    return Trained(done.final["top1"], done.final_progress.step, done.seconds)


if __name__ == "__main__":
    main()
