"""Runs that are killed and resumed end as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from runner import runs
from runner.config import store
from runner.runs.history import curves
from runner.runs.journal import MEASURED
from runner.training import schedules
from tests.conftest import TINY
from tests.e2e.processes import assert_mlflow_has_every_point_once, run, start, wait_until, worker_of

DEADLY = ["loss=custom", "loss.target=tests.samples:deadly"]
#: 7 steps an epoch, 3 epochs; checkpoints within the epochs; a log window that no checkpoint ends with.
LENGTH = [
    "data.limit=56", "data.batch_size=8", "data.eval_batch_size=16", "train.epochs=3", "train.log_every=4",
    "checkpoint.every_steps=3", "schedule.warmup_epochs=1", "train.threads=1", "deploy.formats=[]",
]  # fmt: skip
SMALL = ["model=mobilenet_v3_small_x0_35", "augment.crop_padding=3", "augment.flip=true"]


def folder_of_images(root):
    generator = np.random.default_rng(0)
    for split, count in (("train", 28), ("test", 4)):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (40, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return root


def state(directory):
    """Everything that must be equal: tensors, what the last checkpoint says, metrics, the result."""
    folder = directory / "checkpoints"
    last = folder / (folder / "last").read_text()
    tensors = {path.name: load_file(path) for path in last.glob("*.safetensors")}
    said = json.loads((last / "state.json").read_text())
    result = json.loads((directory / "result.json").read_text())
    points = {name: values for name, values in curves(directory).items() if name not in MEASURED}
    kept = {name: said[name] for name in ("progress", "schedules", "random", "steps", "data")}
    return tensors, kept, points, {name: result[name] for name in ("final", "test", "best", "ending", "progress")}


def assert_equal(directory, undisturbed):
    ours, theirs = state(directory), state(undisturbed)
    assert ours[0].keys() == theirs[0].keys(), "other files"
    for name, tensors in theirs[0].items():
        assert ours[0][name].keys() == tensors.keys(), f"other tensors in {name}"
        for key, value in tensors.items():
            np.testing.assert_array_equal(ours[0][name][key], value, err_msg=f"{name} {key}")
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        for key in mine.keys() | other.keys():
            assert mine.get(key) == other.get(key), f"{key}: {mine.get(key)} instead of {other.get(key)}"


CASES = {
    "cls with accumulation and averages": ["train.accumulate=2", "train.ema=0.9", "optimizer=momentum", *SMALL],
    "cls_distill with cutout": ["mode=cls_distill", "augment.cutout=8", *SMALL],
    "cls_distill_multiopt with two kinds of optimizers": [
        "mode=cls_distill_multiopt", "optimizer=rmsprop", "optimizer@mode.peer_optimizer=adamw",
        "schedule@mode.peer_schedule=piecewise", "mode.peer_schedule.boundaries=[1]",
        "mode.peer_schedule.factors=[1,0.1]", *SMALL,
    ],
    "cls_teacher with decoding workers": [
        "mode=cls_teacher", "mode.teacher_from=teacher", "mode.teacher_network=student", "data=image_folder",
        "data.root=images", "data.image_size=32", "data.workers=2", "optimizer=sgd", *SMALL,
    ],
    "cls_distill_multiopt with pruning and quantization": ["mode=cls_distill_multiopt", "compression=fpgm_qat", *SMALL],
    "cls with quantization and averages": ["compression=qat", "train.ema=0.9", *SMALL],
    "cls with calibration at the end": ["compression=ptq", *SMALL],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_in_the_middle_of_an_epoch_goes_on_bit_for_bit(tmp_path, case):
    overrides = [*LENGTH, *CASES[case], *DEADLY, "tracking=none"]
    if "teacher" in case:
        folder_of_images(tmp_path / "images")
        data = ["data=image_folder", "data.root=images", "data.image_size=32", "data.workers=0"]
        assert run(*TINY, *data, "tracking=none", "hydra.run.dir=teacher", cwd=tmp_path).returncode == 0
    whole = run(*overrides, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    calls_a_step = 2 if "accumulation" in case or "distill" in case else 1
    again = [*overrides, "hydra.run.dir=killed", "checkpoint.resume=auto"]
    for step in (5, 7):
        killed = run(*again, cwd=tmp_path, env={"KILL_AT_CALL": str(step * calls_a_step)})
        assert killed.returncode == 5, killed.stderr
    done = run(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed from step-00000009" in done.stdout
    assert_equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_goes_on_bit_for_bit(tmp_path, number):
    overrides = [
        "data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=80",
        "train.epochs=2", "train.log_every=3", "schedule.warmup_epochs=0", "tracking=none", "deploy.formats=[]",
    ]  # fmt: skip
    assert run(*overrides, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    stopped = start(*overrides, "hydra.run.dir=stopped", cwd=tmp_path)
    wait_until(lambda: curves(tmp_path / "stopped"), process=stopped)
    stopped.send_signal(number)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + number
    assert "hydra.run.dir=stopped checkpoint.resume=auto" in said
    done = run(*overrides, "hydra.run.dir=stopped", "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "stopped", tmp_path / "whole")


def test_twenty_kills_at_random_moments_change_nothing_and_mlflow_has_every_point_once(tmp_path):
    """Kills of the worker, of the command, and within the writes of a checkpoint."""
    overrides = [
        "data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=160",
        "train.epochs=8", "train.log_every=3", "checkpoint.every_steps=2", "train.ema=0.9", *DEADLY,
        "deploy.formats=[]",
    ]  # fmt: skip
    whole = start(*overrides, "hydra.run.dir=whole", "tracking=none", cwd=tmp_path)
    again = [*overrides, "hydra.run.dir=killed", "checkpoint.resume=auto"]
    generator, kills = random.Random(0), 0
    while kills < 20:
        kind = ("worker", "command", "write")[kills % 3]
        env = {"KILL_AT_FSYNC": str(generator.randint(1, 40))} if kind == "write" else {}
        process = start(*again, cwd=tmp_path, env=env)
        if kind == "write":
            process.communicate(timeout=60)
            assert process.returncode == 5
        else:
            began = time.monotonic()
            wait_until(lambda began=began: _trains(tmp_path / "killed", began), process=process)
            time.sleep(generator.uniform(0, 0.6))
            victim = worker_of(process) if kind == "worker" else process.pid
            os.kill(victim, signal.SIGKILL)
            process.communicate(timeout=60)
            assert process.returncode == (5 if kind == "worker" else -signal.SIGKILL)
        kills += 1
    done = run(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert whole.wait(60) == 0
    assert_equal(tmp_path / "killed", tmp_path / "whole")
    found = assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "killed")
    assert found.info.status == "FINISHED"
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


def _trains(directory, began):
    """Whether an attempt that began at a moment has written its environment, which comes just before training."""
    path = directory / "environment.json"
    return path.exists() and time.time() - path.stat().st_mtime < time.monotonic() - began


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """(folder, output) of a run of three epochs that was extended to five."""
    folder = tmp_path_factory.mktemp("extended")
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "hydra.run.dir=run"]
    assert run(*overrides, cwd=folder).returncode == 0
    done = run(*overrides, "train.epochs=5", "checkpoint.resume=auto", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_extending_a_run_takes_the_learning_rate_of_the_longer_schedule_and_says_so(extended):
    folder, said = extended
    assert "the run has 35 steps now instead of 21" in said
    config = store.read(folder / "run" / "config.yaml")
    rates = curves(folder / "run")["train/lr"]
    assert max(rates) == 35
    for step, rate in rates.items():
        steps = 35 if step > 21 else 21
        expected = config.optimizer.lr * schedules.factor(config.schedule, step - 1, steps, 7)
        assert rate == pytest.approx(expected, abs=1e-12)


def test_a_complete_run_is_not_trained_again(extended):
    folder, _ = extended
    before = (folder / "run" / "journal.jsonl").read_text()
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "hydra.run.dir=run", "train.epochs=5", "checkpoint.resume=auto"]
    done = run(*overrides, cwd=folder)
    assert done.returncode == 0
    assert "is complete" in done.stdout
    assert (folder / "run" / "journal.jsonl").read_text() == before


def test_a_shorter_run_than_what_is_done_is_refused_and_its_result_stays(extended):
    folder, _ = extended
    before = (folder / "run" / "result.json").read_bytes()
    options = [*LENGTH, *TINY[1:], "tracking=none", "train.epochs=2"]
    own = run(*options, "checkpoint.resume=auto", "hydra.run.dir=run", cwd=folder)
    assert own.returncode == 2
    assert "Raise train.epochs" in own.stderr
    assert (folder / "run" / "result.json").read_bytes() == before
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "train.epochs=2", "checkpoint.resume=run", "hydra.run.dir=short"]
    done = run(*overrides, cwd=folder)
    assert done.returncode == 2
    assert "Raise train.epochs" in done.stderr


@pytest.mark.parametrize("damage", ["truncated", "edited"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(extended, tmp_path, damage):
    import shutil

    folder, _ = extended
    shutil.copytree(folder / "run", tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = checkpoints / (checkpoints / "last").read_text()
    if damage == "truncated":
        weights = newest / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        (newest / "state.json").write_text((newest / "state.json").read_text().replace('"step": 35', '"step": 34'))
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "hydra.run.dir=run", "train.epochs=6", "checkpoint.resume=auto"]
    done = run(*overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step-00000035 is damaged" in done.stdout
    assert "is used instead" in done.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["progress"]["step"] == 42


def test_another_run_can_start_from_the_state_of_one(extended):
    folder, _ = extended
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "train.epochs=6", "checkpoint.resume=run", "hydra.run.dir=fork"]
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*") if "lock" not in path.name}
    done = run(*overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "resumed from step-00000035" in done.stdout
    assert min(curves(folder / "fork")["train/loss"]) > 35
    assert before == {path: Path(path).stat().st_mtime_ns for path in before}


def test_a_run_killed_before_its_first_checkpoint_writes_no_point_twice(tmp_path):
    overrides = [*LENGTH[:5], *LENGTH[6:], *SMALL, *DEADLY, "hydra.run.dir=run"]
    killed = run(*overrides, cwd=tmp_path, env={"KILL_AT_CALL": "6"})
    assert killed.returncode == 5
    assert curves(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    done = run(*overrides, "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "run")


def test_a_run_from_the_state_of_another_that_is_killed_at_once_still_begins_there(extended):
    folder, _ = extended
    overrides = [*LENGTH, *TINY[1:], "tracking=none", "train.epochs=6", "hydra.run.dir=late"]
    begun = start(*overrides, "checkpoint.resume=run", cwd=folder)
    wait_until(lambda: (folder / "late" / "journal.jsonl").exists(), process=begun)
    begun.kill()
    begun.communicate()
    assert not (folder / "late" / "checkpoints" / "last").exists()
    wait_until(lambda: not runs.is_running(folder / "late"))
    done = run(*overrides, "checkpoint.resume=auto", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "resumed from step-00000035" in done.stdout
