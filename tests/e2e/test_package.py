"""The wheel has the configs and works from another folder; a tracking server works like the embedded store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from runner.choices import config_dir
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_has_every_config_and_the_operators_sources(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"runner/conf/{path.relative_to(config_dir())}" for path in config_dir().rglob("*.yaml")}
    assert configs <= names
    assert {"runner/models/ops/relu.cc", "runner/models/ops/relu.cu"} <= names


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


@pytest.fixture
def server(tmp_path):
    """A real MLflow server on loopback, ended with all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    serving = subprocess.Popen(
        [*command, "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < limit
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(serving.pid, 15)
        serving.wait(20)


def test_a_run_lands_on_a_tracking_server(server, command, tmp_path):
    from mlflow.tracking import MlflowClient

    done = command(*TINY, "hydra.run.dir=run", f"tracking.uri={server}", "amp=fp16", "amp.fallback=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=server)
    [run] = client.search_runs([client.get_experiment_by_name("default").experiment_id])
    assert run.info.status == "FINISHED"
    assert "final/top1" in run.data.metrics
    assert run.data.tags["amp"] == "off", "what ran is float32, whatever was asked for"
    assert "checkpoints/best/model.safetensors" in {
        item.path for item in client.list_artifacts(run.info.run_id, "checkpoints/best")
    }


def test_a_server_that_is_down_does_not_stop_a_run(command, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    done = command(*TINY, "hydra.run.dir=run", f"tracking.uri={uri}", "tracking.drain_s=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not everything reached" in done.stderr
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize(
    ("uri", "said"), [("nowhere.db", "runner ui sqlite:///nowhere.db"), ("sqlite:///nowhere.db", "does not exist")]
)
def test_the_user_interface_explains_what_it_cannot_open(command, tmp_path, uri, said):
    done = command("ui", uri, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_user_interface_serves_the_runs_of_the_folder(finished):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
