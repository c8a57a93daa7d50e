"""Disks that are full or read-only: one message, the documented exit code, nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from runner.checkpoints import reading
from runner.runs.journal import events
from tests.conftest import TINY
from tests.e2e.processes import assert_mlflow_has_every_point_once, mlflow_runs, run
from tests.e2e.test_resume import assert_equal

TRAINED = [*TINY[1:], "data.limit=48", "data.batch_size=8", "train.epochs=4", "schedule.warmup_epochs=0"]


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own: a function that mounts it with some options, or mounts it again with others."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        again = "remount," if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount a disk")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_one_message(done, exit_code=3):
    assert done.returncode == exit_code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    # An export says what it does before it fails.
    lines = [line for line in done.stderr.strip().splitlines() if line and not line.startswith("Export: ")]
    assert len(lines) <= 3


def test_a_disk_that_is_full_in_the_middle_of_a_run_keeps_the_last_checkpoint_and_the_run_goes_on_later(disk, tmp_path):
    where = disk("size=8m")
    filled = run(*TRAINED, f"hydra.run.dir={where}/run", "checkpoint.keep=9", cwd=tmp_path)
    assert_one_message(filled)
    assert "No space left on device" in filled.stderr
    assert f"hydra.run.dir={where}/run checkpoint.resume=auto" in filled.stderr
    assert not list(where.rglob("*.part"))
    saved, notes = reading.newest(where / "run")
    assert saved
    assert notes == []
    assert [event["event"] for event, _ in events(where / "run")][-1] == "ended"
    _, [tracked] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert tracked.info.status == "FAILED"
    disk("size=80m")
    again = run(*TRAINED, f"hydra.run.dir={where}/run", "checkpoint.keep=9", "checkpoint.resume=auto", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    whole = run(*TRAINED, "hydra.run.dir=whole", "tracking=none", cwd=tmp_path)
    assert whole.returncode == 0
    ours, theirs = (json.loads((place / "result.json").read_text()) for place in (where / "run", tmp_path / "whole"))
    assert ours["test"] == theirs["test"]


def test_a_disk_with_no_room_for_a_single_byte_still_ends_the_run_as_failed(disk, tmp_path):
    where = disk("size=1m")
    (where / "run" / "ranks").mkdir(parents=True)
    with (where / "ballast").open("wb") as stream:
        stream.write(b"0" * ((1 << 20) - 40 * 1024))
    done = run(*TRAINED, f"hydra.run.dir={where}/run", cwd=tmp_path)
    assert_one_message(done)
    _, [tracked] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert tracked.info.status == "FAILED"


def test_a_full_disk_at_the_start_is_named(disk, tmp_path):
    where = disk("size=64k")
    (where / "ballast").write_bytes(b"0" * (64 * 1024 - 4096))
    done = run(*TINY, f"hydra.run.dir={where}/run", "tracking=none", cwd=tmp_path)
    assert_one_message(done)
    assert "No space left on device" in done.stderr
    assert not list(where.rglob("*.part"))


@pytest.mark.parametrize("verb", [[], ["-m", "train.seed=0,1"]], ids=["run", "sweep"])
def test_a_read_only_disk_is_named(disk, tmp_path, verb):
    where = disk("size=1m,ro")
    place = f"hydra.sweep.dir={where}/sweep" if verb else f"hydra.run.dir={where}/run"
    done = run(*TINY, place, "tracking=none", *verb, cwd=tmp_path)
    assert_one_message(done)
    assert "Read-only file system" in done.stderr


def test_a_store_that_cannot_be_written_to_slows_nothing_down_and_gets_the_rest_later(disk, tmp_path):
    where = disk("size=20m")
    uri = f"sqlite:///{where}/mlflow.db"
    assert run(*TRAINED, f"tracking.uri={uri}", "hydra.run.dir=first", cwd=tmp_path).returncode == 0
    disk("ro")
    done = run(*TRAINED, f"tracking.uri={uri}", "hydra.run.dir=run", "tracking.drain_s=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runner sync run" in done.stderr
    assert_equal(tmp_path / "run", tmp_path / "first")
    disk("rw")
    assert run("sync", "run", cwd=tmp_path).returncode == 0
    assert assert_mlflow_has_every_point_once(uri, tmp_path / "run").info.status == "FINISHED"


@pytest.mark.parametrize("room_kb", [4, 8])
def test_a_disk_that_is_full_while_a_sweep_begins_is_named_with_its_folder(disk, tmp_path, room_kb):
    where = disk("size=1m")
    (where / "fill").write_bytes(bytes((1024 - room_kb) << 10))
    done = run("-m", "train.seed=0,1", *TINY, f"hydra.sweep.dir={where}/sweep", cwd=tmp_path)
    assert done.returncode == 3, done.stderr + done.stdout
    assert f"{where}/sweep" in done.stderr
    assert "cannot be written: No space left on device. Make room there, or choose another folder" in done.stderr
    assert "None" not in done.stderr


@pytest.mark.parametrize(
    ("options", "format", "reason"),
    [
        ("size=1m,ro", "paddle", "Read-only file system"),
        *(("size=64k", format, "No space left on device") for format in ("safetensors", "onnx", "paddle")),
    ],
    ids=["read-only", "full", "full for paddle2onnx", "full for Paddle"],
)
def test_a_disk_that_takes_no_export_is_named(disk, command, finished, options, format, reason):
    where = disk(options)
    done = command("export", "run", "--format", format, "--output", str(where), cwd=finished)
    assert_one_message(done)
    assert reason in done.stderr
    assert not list(where.iterdir())


@pytest.mark.parametrize("options", ["size=6500k", "size=90m,nr_inodes=25"], ids=["bytes", "files"])
def test_a_disk_that_has_no_room_for_the_export_alone_ends_in_a_whole_run_and_names_what_exports_it(
    disk, tmp_path, options
):
    where = disk(options)
    command = [
        *TINY[:-1], f"hydra.run.dir={where}/run", "deploy.formats=[onnx]", "deploy.bench_s=0.01", "tracking=none",
        "checkpoint.resume=auto",
    ]  # fmt: skip
    later = "Later: python -m runner export disk/run"
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not exported: " in done.stdout
    assert later in done.stdout
    assert json.loads((where / "run/result.json").read_text())["exported"] is None
    assert not list(where.rglob("*.part"))
    again = run(*command, cwd=tmp_path)
    assert "is complete" in again.stdout
    assert later in again.stdout
