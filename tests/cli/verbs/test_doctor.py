"""`doctor` reports what is there and what is not, survives a Paddle that does not, and says what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from runner.cli.verbs import doctor
from tests.conftest import TINY

ROOT = Path(__file__).parents[3]
CUDA = "paddlepaddle-gpu" in {distribution.metadata["Name"] for distribution in metadata.distributions()}


def examined(here, cwd):
    """The exit code and the findings by name."""
    done = here("doctor", "--json", cwd=cwd)
    assert "Traceback" not in done.stderr
    answer = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in answer["findings"]}
    assert answer["problems"] == sum(finding["status"] == "missing" for finding in findings.values())
    return done.returncode, findings


def test_a_healthy_machine_is_ready_and_its_versions_are_named(command, tmp_path):
    done = command("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("Ready: python -m runner\n")
    rows = {name: row for name, *row in map(str.split, filter(str.strip, done.stdout.splitlines()))}
    for package in ("numpy", "mlflow", "hydra-core", "paddleslim", "paddlepaddle-gpu" if CUDA else "paddlepaddle"):
        assert rows[package] == ["ok", metadata.version(package)]
    assert rows["device"][1].startswith(("cpu", "gpu:0"))
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


@pytest.mark.slow
def test_json_has_what_the_table_has(here, tmp_path):
    code, findings = examined(here, tmp_path)
    assert code == 0
    assert findings["numpy"] == {"name": "numpy", "status": "ok", "found": metadata.version("numpy"), "remedy": ""}
    assert {
        *doctor.REQUIRED,
        "Python",
        "device",
        "workers of sweeps",
        "C++ compiler",
        "processor",
        "memory",
        "outputs",
    } <= set(findings)


@pytest.mark.slow
def test_neither_paddle_nor_mlflow_is_imported_by_the_command_itself(tmp_path):
    script = (
        "import sys; from runner.cli.verbs import doctor; doctor.main([]); print({'paddle', 'mlflow'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.endswith("Ready: python -m runner\nset()\n"), done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(
            "raise RuntimeError('a broken [bold]wheel')", "RuntimeError: a broken [bold]wheel", marks=pytest.mark.slow
        ),
        ("import os; print('chatter'); os.kill(os.getpid(), 11)", "the process ended with SIGSEGV"),
        pytest.param("import os; os._exit(7)", "the process ended with exit code 7", marks=pytest.mark.slow),
    ],
    ids=["raises", "signal", "exits"],
)
def test_a_paddle_that_does_not_import_is_a_problem_with_a_remedy(command, tmp_path, source, said):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "paddle.py").write_text(source)
    path = os.pathsep.join(filter(None, [str(tmp_path / "shadow"), os.environ.get("PYTHONPATH")]))
    done = command("doctor", cwd=tmp_path, env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert said in done.stdout
    assert f"{tmp_path}/shadow/paddle.py hides the installed paddle" in done.stdout
    assert done.stdout.endswith("1 problem\n"), "what fails because of it is not counted again"


def test_a_store_that_is_no_database_is_a_problem(here, tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mlflow.db").write_text("no database, whatever its name says")
    code, findings = examined(here, tmp_path)
    assert code == 2
    assert "file is not a database" in findings["MLflow store"]["found"]
    assert "python -m runner sync" in findings["MLflow store"]["remedy"]


@pytest.mark.slow
def test_the_runs_of_the_store_are_counted(here, tmp_path):
    assert here(*TINY, cwd=tmp_path).returncode == 0
    _, findings = examined(here, tmp_path)
    assert findings["MLflow store"]["status"] == "ok"
    assert findings["MLflow store"]["found"].endswith("runs: 1")


def test_an_outputs_folder_that_takes_no_files_is_a_problem(here, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    code, findings = examined(here, tmp_path)
    assert (code, findings["outputs"]["status"]) == (2, "missing")


def test_the_tracking_variable_is_said_to_be_unused_and_not_shown(here, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:opensesame@server")
    done = here("doctor", cwd=tmp_path)
    assert done.returncode == 0
    assert 'tracking.uri="$MLFLOW_TRACKING_URI"' in done.stdout
    assert "opensesame" not in done.stdout + done.stderr


@pytest.mark.skipif(CUDA, reason="this Paddle has CUDA")
def test_a_gpu_that_this_build_cannot_use_is_a_warning(here, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H100\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    code, findings = examined(here, tmp_path)
    assert (code, findings["device"]["status"]) == (0, "warn")
    assert "NVIDIA H100" in findings["device"]["found"]
    assert "paddlepaddle-gpu" in findings["device"]["remedy"]


def test_a_gpu_build_without_a_gpu_is_a_warning(monkeypatch):
    answer = {"file": None, "error": "", "device": "cpu", "cuda": "12.6", "gpus": []}
    monkeypatch.setattr(doctor, "imported", lambda: {"paddle": answer})
    monkeypatch.setenv("PATH", "")
    [finding] = doctor.device()
    assert finding.status == "warn"
    assert "driver" in finding.remedy


@pytest.mark.parametrize(
    ("versions", "found", "remedy"),
    [
        ({}, "not installed", "pip install 'paddlepaddle>=3.1,<4' (CPU)"),
        ({"paddlepaddle": "2.6.2"}, "2.6.2, not >=3.1,<4", "pip install 'paddlepaddle>=3.1,<4'"),
        ({"paddlepaddle-gpu": "2.6.2"}, "2.6.2, not >=3.1,<4", "/packages/stable/"),
        ({"paddlepaddle": "3.3.1", "paddlepaddle-gpu": "3.3.1"}, "overwrite each other", "pip uninstall"),
    ],
    ids=["none", "old", "old from PyPI", "both"],
)
def test_a_paddle_that_does_not_fit_is_a_problem(monkeypatch, versions, found, remedy):
    monkeypatch.setattr(doctor, "installed", versions.get)
    monkeypatch.setattr(doctor, "imported", lambda: {"paddle": {"file": None, "error": ""}})
    [finding] = doctor.paddle()
    assert finding.status == "missing"
    assert found in finding.found
    assert remedy in finding.remedy


def test_a_container_that_has_fewer_cores_and_less_memory_than_the_machine_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    processor, memory = doctor.machine(tmp_path)
    assert (processor.status, processor.remedy) == ("warn", "train.threads=1")
    assert (memory.status, memory.found) == ("warn", "1.0 GB in all")


def test_a_container_without_limits_has_all_of_the_machine(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert list(doctor.machine(tmp_path)) == list(doctor.machine(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("version", "versions", "good"),
    [
        ("1.26.4", ">=1.24,<2", True),
        ("2.0.0rc1", ">=1.24,<2", False),
        ("1.3.10", ">=1.3.2,<1.4", True),
        ("1.3.1", ">=1.3.2,<1.4", False),
        ("2.6.0.post1", ">=2.6,<3", True),
        ("3.1.0+cu126", ">=3.1,<4", True),
        ("81", "<81", False),
        ("2.1rc1", ">=2.0,<3", True),
        ("2.0rc1", ">=2.0,<3", False),
        ("5.3", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, versions, good):
    assert doctor.fits(version, versions) is good


def test_the_versions_are_those_of_pyproject():
    asked = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    assert dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in asked["dependencies"]) == {
        package: versions for package, (versions, _) in doctor.REQUIRED.items()
    }
    extras = asked["optional-dependencies"]
    assert [f"{package}{doctor.PADDLE}" for package in doctor.INSTALL] == extras["cpu"] + extras["gpu"]


def test_paddleclas_is_no_requirement_and_one_of_another_version_is_named(monkeypatch, tmp_path):
    [without] = doctor.paddleclas() if doctor.installed("paddleclas") is None else [doctor.Finding("", "ok", "")]
    assert without.status == "ok"
    package = tmp_path / "paddleclas-2.5.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: paddleclas\nVersion: 2.5.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    [other] = doctor.paddleclas()
    assert (other.status, other.found) == ("warn", "2.5.1, not >=2.6,<2.7")
    assert "pip install --no-deps paddleclas==2.6.0" in other.remedy
