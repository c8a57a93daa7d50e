"""What only the environment may know stays there: no log, journal, artefact, tag or message has it."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from tests.conftest import TINY
from tests.e2e.processes import Server, run

USER, PASSWORD = "kangaroo-user", "kangaroo-password-17"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD, "AWS_SECRET_ACCESS_KEY": "kangaroo-key",
    "SOME_API_TOKEN": "kangaroo-token", "DATABASE_URL": "postgresql://kangaroo:kangaroo-pass@localhost/kangaroo",
}  # fmt: skip


def holders(folder):
    """Files below a folder that hold any of the secrets."""
    return [path for path in folder.rglob("*") if path.is_file() and b"kangaroo" in path.read_bytes()]


@pytest.fixture
def guarded(tmp_path):
    """A tracking server that asks for a password, with its files in `server` and who may use it beside them."""
    for name in ("server", "users"):
        (tmp_path / name).mkdir()
    users = tmp_path / "users" / "auth.ini"
    users.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/users/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    own = {
        "MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
    }  # fmt: skip
    with Server(tmp_path / "server", ["--app-name", "basic-auth"], own) as server:
        yield server.start()


def test_a_password_of_the_environment_opens_the_server_and_is_written_nowhere(guarded, tmp_path):
    where = tmp_path / "work"
    where.mkdir()
    options = [*TINY, "deploy.formats=[onnx]", "deploy.bench_s=0.01", "launch.nproc_per_node=2", "hydra.run.dir=run",
               f"tracking.uri={guarded.uri}", "loss=custom", "loss.target=tests.samples:faulty",
               "checkpoint.resume=auto"]  # fmt: skip
    fault = {"FAULT": "raise", "FAULT_RANK": "1", "FAULT_AT": "2", "FAULT_MARK": str(tmp_path / "mark")}
    wrong = {"MLFLOW_TRACKING_PASSWORD": "kangaroo-mistake"}
    said = [
        # Refused by the server, broken by a defect, and whole.
        run(*options, "tracking.drain_s=30", cwd=where, env=SECRETS | fault | wrong),
        run(*options, cwd=where, env=SECRETS),
        run("sync", "run", cwd=where, env=SECRETS),
    ]
    assert [done.returncode for done in said] == [1, 0, 0], said
    assert "401" in (where / "run" / "ranks" / "tracking.log").read_text()
    assert not any("kangaroo" in done.stdout + done.stderr for done in said)
    assert holders(where) == []
    with sqlite3.connect(tmp_path / "server" / "server.db") as store:
        assert [status for (status,) in store.execute("select status from runs")] == ["FINISHED"]
    assert list((tmp_path / "server" / "artifacts").rglob("*.onnx"))
    assert holders(tmp_path / "server") == []


ADDRESS = "http://me:kangaroo@127.0.0.1:1"


@pytest.mark.smoke
@pytest.mark.parametrize(
    "words",
    [
        [f"tracking.uri={ADDRESS}", "hydra.run.dir=run"],
        ["-m", f"tracking.uri=choice('{ADDRESS}','http://127.0.0.1:2')", "hydra.sweep.dir=run"],
        ["-m", "tracking.uri=http://127.0.0.1:2?api_key=kangaroo,http://127.0.0.1:3", "hydra.sweep.dir=run"],
        ["-m", "tracking=mine", "train.seed=0,1", "hydra.sweep.dir=run", "hydra.searchpath=[file://conf]"],
        ["tracking=mine", "hydra.run.dir=run", "hydra.searchpath=[file://conf]"],
        ["report", "--experiment", "x", "--uri", ADDRESS],
        ["-m", "experiment=swept", "hydra.sweep.dir=run", "hydra.searchpath=[file://conf]"],
    ],
    ids=["run", "choice", "query", "file of a sweep", "file of a run", "report", "file that sweeps"],
)
def test_a_tracking_uri_with_a_password_is_refused_before_anything_is_written(tmp_path, words):
    (tmp_path / "conf" / "tracking").mkdir(parents=True)
    own = tmp_path / "conf" / "tracking" / "mine.yaml"
    own.write_text(f"defaults: [/schema/tracking/mlflow@_here_, _self_]\nuri: {ADDRESS}\n")
    (tmp_path / "conf" / "experiment").mkdir()
    swept = tmp_path / "conf" / "experiment" / "swept.yaml"
    swept.write_text(f"# @package _global_\nhydra: {{sweeper: {{params: {{tracking.uri: '{ADDRESS},http://b:1'}}}}}}\n")
    words = [word.replace("file://conf", f"file://{tmp_path}/conf") for word in words]
    done = run(*words, *(TINY if words[0] != "report" else []), cwd=tmp_path)
    own.unlink()
    swept.unlink()
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert "kangaroo" not in done.stdout + done.stderr
    assert holders(tmp_path) == []


def test_a_run_is_not_delivered_to_a_uri_with_a_password(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    done = run("sync", "run", "--uri", "http://me:kangaroo@127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2
    assert "kangaroo" not in done.stdout + done.stderr
    assert holders(tmp_path) == []
