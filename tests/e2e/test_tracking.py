"""The command and its tracking store: whose store it is, what a server may do, and what is said at the end."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.conftest import TINY
from tests.e2e.processes import (
    assert_mlflow_has_every_point_once,
    children,
    free_port,
    has_logged,
    mlflow_runs,
    run,
    start,
    wait_until,
)
from tests.e2e.test_outages import STEADY
from tests.tracking.test_answers import PASSWORD, Answers, drip, echo, status


@pytest.fixture(scope="module")
def untracked(tmp_path_factory):
    """A finished run that was never sent anywhere."""
    folder = tmp_path_factory.mktemp("untracked")
    assert run(*TINY, "hydra.run.dir=run", "tracking=none", cwd=folder).returncode == 0
    return folder / "run"


@pytest.fixture
def foreign(untracked, tmp_path):
    """A run directory from somebody else, which names a store of somebody else."""
    shutil.copytree(untracked, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    tracking = "tracking:\n  kind: mlflow\n  uri: {}\n  checkpoints: best\n  tags: {{}}\n  drain_s: 5.0\n"
    config = config.replace("tracking:\n  kind: none\n", tracking.format(f"sqlite:///{tmp_path}/theirs.db"))
    (tmp_path / "run" / "config.yaml").write_text(config)
    return tmp_path


def test_a_run_is_not_sent_to_a_store_that_only_it_names(foreign):
    for words in (["run"], ["."]):
        refused = run("sync", *words, cwd=foreign)
        assert refused.returncode == 2
        assert "--uri" in refused.stdout + refused.stderr
    assert not (foreign / "theirs.db").exists()
    uri = f"sqlite:///{foreign}/theirs.db"
    assert run("sync", "run", "--uri", uri, cwd=foreign).returncode == 0
    assert run("sync", "run", cwd=foreign).returncode == 0, "the user has said that it is his"
    assert_mlflow_has_every_point_once(uri, foreign / "run")


def test_a_run_that_was_sent_elsewhere_and_extended_reaches_its_own_store(tmp_path):
    words = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=40",
             "schedule.warmup_epochs=0", "hydra.run.dir=run", "deploy.formats=[]"]  # fmt: skip
    assert run(*words, "train.epochs=1", cwd=tmp_path).returncode == 0
    other = f"sqlite:///{tmp_path}/other.db"
    assert run("sync", "run", "--uri", other, cwd=tmp_path).returncode == 0
    began = time.monotonic()
    extended = run(*words, "train.epochs=2", "checkpoint.resume=auto", cwd=tmp_path)
    assert extended.returncode == 0, extended.stderr
    assert extended.stderr == ""
    assert time.monotonic() - began < 45
    own = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    found = assert_mlflow_has_every_point_once(own, tmp_path / "run")
    assert found.data.tags["resumed.train.epochs"] == "2"
    assert run("sync", "run", "--uri", other, cwd=tmp_path).returncode == 0
    assert_mlflow_has_every_point_once(other, tmp_path / "run")
    assert len(mlflow_runs(own)[1]) == len(mlflow_runs(other)[1]) == 1


def test_a_server_that_says_no_is_not_waited_for_and_no_password_is_written(tmp_path):
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    (tmp_path / "netrc").chmod(0o600)
    with Answers(echo) as uri:
        began = time.monotonic()
        done = run(*TINY, "hydra.run.dir=run", f"tracking.uri={uri}", cwd=tmp_path, env={"NETRC": f"{tmp_path}/netrc"})
        assert time.monotonic() - began < 45
    assert done.returncode == 0, done.stderr
    assert "refuses" in done.stderr or "401" in done.stderr
    (tmp_path / "netrc").unlink()
    import base64

    secret = base64.b64encode(f"me:{PASSWORD}".encode())
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in left
    assert secret not in left
    assert secret.decode() not in done.stdout + done.stderr


@pytest.mark.parametrize("answer", [drip, status(429, [("Retry-After", "3600")])])
def test_a_server_that_holds_calls_up_ends_with_a_word(untracked, tmp_path, answer):
    shutil.copytree(untracked, tmp_path / "run")
    with Answers(answer) as uri:
        began = time.monotonic()
        done = run("sync", "run", "--uri", uri, cwd=tmp_path)
        assert time.monotonic() - began < 90
    assert done.returncode == 5
    assert uri in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mirror_that_is_killed_is_started_again(tmp_path):
    training = start(*STEADY, "train.epochs=60", cwd=tmp_path)
    for _ in range(2):
        wait_until(lambda: any("runner.tracking" in name for name in children(training.pid)), process=training)
        [mirror] = [number for name, number in children(training.pid).items() if "runner.tracking" in name]
        os.kill(mirror, signal.SIGKILL)
        wait_until(lambda killed=mirror: killed not in children(training.pid).values(), process=training)
    _, errors = training.communicate(timeout=120)
    assert training.returncode == 0
    assert errors == ""
    found = assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "run")
    assert found.info.status == "FINISHED"


def test_two_servers_on_one_port_at_once_do_not_both_name_it(finished):
    port = str(free_port())
    both = [start("ui", "--port", port, cwd=finished) for _ in range(2)]
    try:
        wait_until(lambda: any(one.poll() is not None for one in both), seconds=30)
        [refused] = [one for one in both if one.poll() is not None]
        output, errors = refused.communicate(timeout=10)
        assert refused.returncode == 2
        assert f"Port {port} is taken" in errors
        assert "MLflow" not in output
    finally:
        for one in both:
            if one.poll() is None:
                one.send_signal(signal.SIGINT)
                one.wait(20)


def test_a_verb_from_another_folder_makes_no_second_store(finished, tmp_path):
    assert has_logged(finished / "run")
    done = run("sync", finished / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
