"""The comparison of what a student can follow."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import distillation
from runner.runs import result as results
from runner.runs.journal import RESULT
from tests.docs.pages import ROOT


def test_rows_are_compared_over_seeds_and_noise_is_called_so():
    scores = {"far": {0: 0.1, 1: 0.11, 2: 0.1}, "best": {0: 0.9, 1: 0.91, 2: 0.9}, "near": {0: 0.9, 1: 0.9, 2: 0.901}}
    lines = distillation.table({
        row: {seed: distillation.Trained(top1, 1000 + seed, 60.4) for seed, top1 in own.items()}
        for row, own in scores.items()
    })  # fmt: skip
    assert [line[0] for line in lines] == ["far", "best", "near"]
    assert [line[-1].split(" ")[-1] for line in lines] == ["(real)", "best", "(noise)"]
    assert lines[0][3:5] == ["1,001", "60"]
    assert distillation.gain(scores, "far", "best") == "best over far: +0.8000 (real)"
    assert distillation.gain(scores, "best", "near") == "near over best: -0.0030 (noise)"


@pytest.mark.parametrize("row", distillation.ROWS)
def test_every_row_is_a_config_that_follows_what_its_name_says(row, config_of, tmp_path):
    config = config_of(*distillation.student(row, tmp_path / "teacher of all"))
    kinds = {"two_peers": "cls_distill", "labels": "cls", "own_average": "cls"}
    assert config.mode.kind == kinds.get(row, "cls_teacher")
    assert getattr(config.mode, "precompute_logits", False) is row.endswith("_precomputed")
    assert len(config.peer_losses) == {"labels": 0, "kd_hints": 2, "dist_hints_at_first": 2}.get(row, 1)


def test_a_row_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["distillation", "--rows", "kd,kdd"])
    with pytest.raises(SystemExit):
        distillation.main()
    assert "--rows kdd: unknown. Valid: labels,kd," in capsys.readouterr().err


def test_a_teacher_is_a_run_that_is_finished(finished, monkeypatch, capsys, tmp_path):
    teacher_result = distillation.measured(finished / "run")
    assert teacher_result.steps == 2
    assert 0 <= teacher_result.top1 <= 1
    monkeypatch.setattr(sys, "argv", ["distillation", "--teacher", str(tmp_path)])
    result = results.read(finished / "run" / RESULT)
    for final in (None, {"params": 1.0, "average_precision": 0.5}):
        if final:
            results.write(tmp_path / RESULT, replace(result, final=final))
        with pytest.raises(SystemExit):
            distillation.main()
        assert f"--teacher {tmp_path}: this folder has no finished run with a top-1 accuracy" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_teaches_in_place_of_a_teacher_that_is_trained(tmp_path):
    command = [sys.executable, "-m", "benchmarks.distillation", "--quick", "data.image_size=32"]

    def stdout(*words):
        done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=560)
        assert done.returncode == 0, done.stderr
        return done.stdout

    teacher = stdout("--rows", "kd_precomputed", "--keep", str(tmp_path / "first")).splitlines()[0]
    again = stdout("--rows", "labels,kd_precomputed", "--teacher", str(tmp_path / "first" / "teacher"))
    assert again.splitlines()[0] == teacher
    assert teacher.startswith("teacher: test top-1 ")
    assert "kd_precomputed over labels: " in again


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_its_quick_form_runs_every_row(part):
    rows = [*distillation.ROWS][part::2]
    command = [sys.executable, "-m", "benchmarks.distillation", "--quick", "data.image_size=32"]
    done = subprocess.run([*command, "--rows", ",".join(rows)], cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[1].strip() for line in table] == rows
