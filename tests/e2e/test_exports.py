"""The export of runs that go on: none is older than its run, none is half written."""

from __future__ import annotations

import json
import os
import signal

from runner.__main__ import command as run_here
from runner.deploy import manifest
from tests.conftest import INLINE
from tests.e2e.processes import run, start, wait_until, worker_of

SMALL = "model=mobilenet_v3_small_x0_35"


def test_a_run_that_goes_on_without_an_export_keeps_no_stale_one(tmp_path):
    options = [*INLINE, SMALL, f"hydra.run.dir={tmp_path}"]
    assert run_here([*options, "train.max_steps=1", "deploy.formats=[paddle]"]) == 0
    assert manifest.read(tmp_path / "export").recommended == "paddle/model.json"
    assert run_here([*options, "train.max_steps=2", "deploy.formats=[]", "checkpoint.resume=auto"]) == 0
    assert not (tmp_path / "export").exists()
    assert "size_mb" not in json.loads((tmp_path / "result.json").read_text())["final"]


def test_a_run_that_goes_on_keeps_no_stale_export_of_another_network(tmp_path):
    options = [*INLINE, SMALL, "mode=cls_distill", "deploy.formats=[]", f"hydra.run.dir={tmp_path}"]
    assert run_here([*options, "train.max_steps=1"]) == 0
    assert run_here(["export", str(tmp_path), "--network", "student1", "--format", "safetensors"]) == 0
    assert (tmp_path / "student1" / "export" / "model.safetensors").is_file()
    assert run_here([*options, "train.max_steps=2", "checkpoint.resume=auto"]) == 0
    assert not (tmp_path / "student1" / "export").exists()


def test_a_run_killed_while_it_exports_goes_on_to_a_whole_export_and_the_same_metrics(tmp_path):
    options = ["+debug=fast_dev_run", SMALL, "train.threads=1", "tracking=none", "deploy.bench_s=0.01"]
    whole = run(*options, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    directory, partial = tmp_path / "killed", lambda: [*(tmp_path / "killed").glob(".export.*.part")]
    killed = start(*options, "hydra.run.dir=killed", cwd=tmp_path)
    wait_until(partial, process=killed)
    os.kill(worker_of(killed), signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == 5
    assert partial()
    assert not (directory / "export").exists()
    done = run(*options, "hydra.run.dir=killed", "checkpoint.resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(directory.glob(".export*"))
    described = manifest.read(directory / "export")
    assert described.recommended == "model.onnx"
    assert [file.agreement for file in described.files] == [1.0]
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (directory, tmp_path / "whole"))
    assert ours["test"] == theirs["test"]
