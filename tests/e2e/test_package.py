"""The wheel has the configs and works from another folder; a tracking server works like the embedded store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from runner import __version__
from runner.cli.config_dir import config_dir
from tests.conftest import TINY
from tests.e2e.processes import Server, assert_mlflow_has_every_point_once, free_port, mlflow_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist as an installer does that finds no wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    hatchling = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    subprocess.run(hatchling, cwd=ROOT, check=True, capture_output=True)
    [sdist] = folder.glob("*.tar.gz")
    assert sdist.name == f"paddle_runner-{__version__}.tar.gz"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(sdist)], check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_has_every_file_that_is_not_python(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"runner/conf/{path.relative_to(config_dir())}" for path in config_dir().rglob("*.yaml")}
    others = {
        str(path.relative_to(ROOT)) for path in (ROOT / "runner").rglob("*.*") if path.suffix not in (".py", ".pyc")
    }
    assert configs <= names
    assert {"runner/models/ops/relu.cc", "runner/models/ops/relu.cu", "runner/report/templates/page.html"} <= others
    assert others <= names
    assert "hydra_plugins/runner_search.py" in names


def test_the_version_is_shown(command, tmp_path):
    assert command("--version", cwd=tmp_path).stdout == f"runner {__version__}\n"


def test_the_wheel_composes_from_another_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--cfg", "job", "mode=cls_distill"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "kind: cls_distill" in done.stdout


def test_a_server_that_is_down_does_not_stop_a_run_and_gets_it_later(command, tmp_path):
    with Server(tmp_path) as server:
        options = [f"tracking.uri={server.uri}", "tracking.drain_s=1", "amp=fp16", "amp.fallback=true"]
        done = command(*TINY, "hydra.run.dir=run", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Not everything reached" in done.stderr
        assert "runner sync run" in done.stderr
        behind = command("sync", "run", cwd=tmp_path)
        assert behind.returncode == 5
        assert "Is the server up?" in behind.stderr
        server.start()
        assert command("sync", "run", cwd=tmp_path).returncode == 0
        assert "up to date" in command("sync", "run", cwd=tmp_path).stdout
        assert_a_whole_run(server.uri, tmp_path / "run")


def assert_a_whole_run(uri, directory):
    run = assert_mlflow_has_every_point_once(uri, directory)
    client, _ = mlflow_runs(uri)
    assert run.info.status == "FINISHED"
    assert "final/top1" in run.data.metrics
    assert run.data.tags["amp"] == "off", "what ran is float32, whatever was asked for"
    assert "checkpoints/best/model.safetensors" in {
        item.path for item in client.list_artifacts(run.info.run_id, "checkpoints/best")
    }


@pytest.mark.parametrize(
    ("uri", "said"), [("nowhere.db", "runner ui sqlite:///nowhere.db"), ("sqlite:///nowhere.db", "does not exist")]
)
def test_the_user_interface_explains_what_it_cannot_open(command, tmp_path, uri, said):
    done = command("ui", uri, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_user_interface_serves_the_runs_of_the_folder(finished):
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "runner", "ui", "--port", str(port)], cwd=finished, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as page:
                    assert page.status == 200
                    break
            except OSError:
                assert time.monotonic() < limit
                time.sleep(0.3)
    finally:
        os.killpg(serving.pid, 15)
        serving.wait(20)
