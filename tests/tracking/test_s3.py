"""Artefacts in a store like S3: moto's server, which MLflow's client writes to itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from runner.runs.journal import Journal
from runner.tracking import server
from tests.e2e.processes import Server, free_port

from .test_mlflow import deliver

#: Where moto is, unless it is installed: pip install --target DIR 'moto[server,s3]' boto3
EXTRA = os.environ.get("RUNNER_TEST_PACKAGES", "")
BUCKET = "artefacts"


def starts(address, process):
    limit = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(address, timeout=2).status
        except OSError:
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < limit
            time.sleep(0.2)


@pytest.fixture
def s3(monkeypatch):
    """A server of S3's interface with an empty bucket, and the environment of a client."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (EXTRA, os.environ.get("PYTHONPATH"))))}
    there = subprocess.run([sys.executable, "-c", "import moto.server, boto3"], env=environment, capture_output=True)
    if there.returncode:
        pytest.skip("needs moto[server,s3] and boto3, installed or in the folder RUNNER_TEST_PACKAGES")
    if EXTRA:
        # Behind everything: such a folder has its own versions of what is installed.
        monkeypatch.setattr(sys, "path", [*sys.path, EXTRA])
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        starts(address, process)
        import boto3

        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket=BUCKET)
        yield client
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_a_run_s_files_go_to_the_bucket_and_come_back(run, s3, tmp_path):
    options = ["--default-artifact-root", f"s3://{BUCKET}/runs", "--no-serve-artifacts"]
    with Server(tmp_path, options=options).start() as tracking:
        mirror = deliver(run, tracking.uri)
        run_id = mirror.values["run_id"]
        stored = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        mine = {key.partition(f"{run_id}/artifacts/")[2] for key in stored}
        assert {"config.yaml", "environment.json", "checkpoints/best/model.safetensors"} <= mine
        assert all(run_id in key for key in stored)
        fetched = Path(server.fetch(tracking.uri, run_id))
        assert fetched == run, "its own directory is still there"
        (tmp_path / "run").rename(tmp_path / "gone")
        fetched = Path(server.fetch(tracking.uri, run_id))
        name = "checkpoints/best"
        there = (fetched / name).read_text().strip()
        weights = fetched / "checkpoints" / there / "model.safetensors"
        assert weights.read_bytes() == (tmp_path / "gone" / "checkpoints" / there / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_bucket_that_is_gone_is_tried_again_and_then_has_everything(run, s3, tmp_path, monkeypatch):
    options = ["--default-artifact-root", f"s3://{BUCKET}/runs", "--no-serve-artifacts"]
    with Server(tmp_path, options=options).start() as tracking:
        s3.delete_bucket(Bucket=BUCKET)
        with pytest.raises(Exception, match="NoSuchBucket"):
            deliver(run, tracking.uri)
        s3.create_bucket(Bucket=BUCKET)
        Journal(run).append("note", text="again")
        deliver(run, tracking.uri)
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert len(keys) == len(set(keys))
        assert any(key.endswith("model.safetensors") for key in keys)
        assert json.loads((run / "mlflow.json").read_text())["offset"] == (run / "journal.jsonl").stat().st_size
