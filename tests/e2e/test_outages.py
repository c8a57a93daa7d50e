"""MLflow down, killed, slow or gone: training goes on, every point arrives once."""

from __future__ import annotations

import http.client
import http.server
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from runner.runs.journal import events
from tests.conftest import TINY
from tests.e2e.processes import (
    Server,
    assert_mlflow_has_every_point_once,
    children,
    gone,
    has_logged,
    mlflow_runs,
    run,
    start,
    wait_until,
)
from tests.e2e.test_resume import assert_equal

#: Twenty steps a second for as many epochs of ten steps as are asked for.
STEADY = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=80",
          "train.log_every=1", "schedule.warmup_epochs=0", "hydra.run.dir=run", "deploy.formats=[]"]  # fmt: skip

#: A run that waited for its server would do so for as long as that is away or silent, 3 s and more; a busy machine
#: alone takes a second.
PAUSE_S = 2.5


def longest_pause(directory):
    """Seconds of the longest time without a step."""
    times = [event["time"] for event, _ in events(directory) if event["event"] == "metrics" and event["step"] > 1]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def test_a_server_killed_and_restarted_ten_times_gets_every_point_once_and_never_stops_training(tmp_path):
    generator = random.Random(0)
    options = [*STEADY, "train.epochs=100", "launch.nproc_per_node=2"]
    with Server(tmp_path) as server:
        # MLflow never opens a store again that it was killed in the middle of creating.
        server.start()
        server.kill()
        # Down at the start.
        training = start(*options, f"tracking.uri={server.uri}", cwd=tmp_path)
        wait_until(lambda: has_logged(tmp_path / "run"), process=training)
        for _ in range(10):
            server.start(wait=False)
            time.sleep(generator.uniform(1, 4))
            assert training.poll() is None, training.communicate()
            server.kill()
            time.sleep(generator.uniform(0, 1))
        server.start()
        _, said = training.communicate(timeout=120)
        assert training.returncode == 0, said
        assert longest_pause(tmp_path / "run") < PAUSE_S
        assert run("sync", "run", cwd=tmp_path).returncode == 0
        found = assert_mlflow_has_every_point_once(server.uri, tmp_path / "run")
        assert found.info.status == "FINISHED"
    assert_as_if_nothing_had_happened(tmp_path, options)


def assert_as_if_nothing_had_happened(folder, options):
    """The weights and metrics of `run` are those of a run without tracking."""
    alone = [*options, "tracking=none", "hydra.run.dir=alone"]
    done = run(*alone, cwd=folder, env={"STEP_S": "0"})
    assert done.returncode == 0, done.stderr
    assert_equal(folder / "run", folder / "alone")


class Delay(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the server, seconds later."""

    upstream = 0
    seconds = 5.0

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.seconds)
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def log_message(self, *_arguments):
        pass


def test_a_slow_server_slows_nothing_down_and_gets_the_rest_later(tmp_path):
    with Server(tmp_path) as server:
        server.start()
        handler = type("Handler", (Delay,), {"upstream": server.port})
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{proxy.server_address[1]}"
        options = [*STEADY, "train.epochs=8"]
        done = run(*options, f"tracking.uri={uri}", "tracking.drain_s=1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "runner sync run" in done.stderr
        assert longest_pause(tmp_path / "run") < PAUSE_S
        handler.seconds = 0.0
        assert run("sync", "run", cwd=tmp_path).returncode == 0
        proxy.shutdown()
        proxy.server_close()
        found = assert_mlflow_has_every_point_once(server.uri, tmp_path / "run")
        assert found.info.status == "FINISHED"
    assert_as_if_nothing_had_happened(tmp_path, options)


def test_two_mirrors_never_deliver_the_same_run_at_the_same_time(tmp_path):
    training = start(*STEADY, "train.epochs=200", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run", 5), process=training)
    said = run("sync", "run", cwd=tmp_path)
    training.send_signal(signal.SIGTERM)
    training.communicate(timeout=60)
    assert said.returncode == 0
    assert "the run's own mirror is delivering it" in said.stdout
    assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "run")


def test_a_run_without_tracking_can_be_delivered_later(tmp_path):
    assert run(*TINY, "hydra.run.dir=run", "tracking=none", cwd=tmp_path).returncode == 0
    refused = run("sync", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--uri" in refused.stderr
    uri = f"sqlite:///{tmp_path}/elsewhere.db"
    assert run("sync", "run", "--uri", uri, cwd=tmp_path).returncode == 0
    assert assert_mlflow_has_every_point_once(uri, tmp_path / "run").info.status == "FINISHED"


def test_a_run_delivered_to_two_stores_is_once_in_each_and_again_in_one_that_was_lost(tmp_path):
    assert run(*TINY, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    own, other = f"sqlite:///{tmp_path}/outputs/mlflow.db", f"sqlite:///{tmp_path}/other.db"
    for arguments in (["--uri", other], [], ["--uri", other]):
        assert run("sync", "run", *arguments, cwd=tmp_path).returncode == 0
    for uri in (own, other):
        assert len(mlflow_runs(uri)[1]) == 1
        assert_mlflow_has_every_point_once(uri, tmp_path / "run")
    (tmp_path / "outputs" / "mlflow.db").unlink()
    assert "delivered" in run("sync", "run", cwd=tmp_path).stdout
    lost = f"sqlite:///{tmp_path}/outputs/mlflow.db?again"
    assert assert_mlflow_has_every_point_once(lost, tmp_path / "run").info.status == "FINISHED"


def test_a_run_all_of_whose_processes_were_killed_is_closed_by_sync(tmp_path):
    training = start(*STEADY, "train.epochs=200", cwd=tmp_path)
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    wait_until(lambda: (tmp_path / "run" / "mlflow.json").exists(), process=training)
    wait_until(lambda: "run_id" in (tmp_path / "run" / "mlflow.json").read_text(), process=training)
    below = children(training.pid).values()
    for process in [*below, training.pid]:
        os.kill(process, signal.SIGKILL)
    training.communicate()
    assert gone(below)
    assert mlflow_runs(uri)[1][0].info.status == "RUNNING"
    assert run("sync", "run", cwd=tmp_path).returncode == 0
    assert assert_mlflow_has_every_point_once(uri, tmp_path / "run").info.status == "FAILED"


def test_four_runs_started_at_once_on_a_store_that_does_not_exist_yet_are_all_complete(tmp_path):
    runs = [start(*TINY, f"hydra.run.dir=run{number}", cwd=tmp_path) for number in range(4)]
    for process in runs:
        _, said = process.communicate(timeout=180)
        assert process.returncode == 0, said
        assert said == ""
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    for number in range(4):
        found = assert_mlflow_has_every_point_once(uri, tmp_path / f"run{number}")
        assert found.info.status == "FINISHED"


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """(folder, MLflow run id, final metrics) of a run whose directory was deleted."""
    folder = tmp_path_factory.mktemp("remote")
    options = ["hydra.run.dir=run", "tracking.checkpoints=last", "train.ema=0.5", "mode=cls_distill"]
    assert run(*TINY, *options, cwd=folder).returncode == 0
    _, [found] = mlflow_runs(f"sqlite:///{folder}/outputs/mlflow.db")
    shutil.rmtree(folder / "run")
    return folder, found.info.run_id, found.data.metrics


def test_a_run_whose_directory_is_gone_is_evaluated_from_mlflow(remote):
    import json

    folder, run_id, metrics = remote
    done = run("eval", run_id, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    for name in ("student/loss", "student/top1", "student1/loss"):
        assert values[name] == metrics[f"test/{name}"]


def test_a_run_whose_directory_is_gone_is_resumed_from_mlflow(remote):
    folder, run_id, _ = remote
    options = ["train.ema=0.5", "mode=cls_distill", "tracking=none", "train.max_steps=4"]
    done = run(*TINY, *options, "hydra.run.dir=on", f"checkpoint.resume={run_id}", cwd=folder)
    # The store to look in is that of the run's own tracking, or the default one.
    assert done.returncode == 0, done.stderr
    assert "resumed from step-00000002" in done.stdout


def test_a_run_whose_directory_is_gone_gives_its_weights_and_can_be_a_teacher(remote):
    folder, run_id, _ = remote
    options = ["mode=cls_teacher", f"mode.teacher_from={run_id}", f"checkpoint.init_from={run_id}", "tracking=none"]
    done = run(*TINY, *options, "hydra.run.dir=taught", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tensors from") == 2


def test_a_killed_command_and_a_dead_server_leave_a_run_that_sync_completes(tmp_path):
    with Server(tmp_path) as server:
        server.start()
        training = start(*STEADY, "train.epochs=200", f"tracking.uri={server.uri}", cwd=tmp_path)
        wait_until(lambda: has_logged(tmp_path / "run", 20), process=training)
        wait_until(lambda: len(mlflow_runs_or_none(server.uri)) == 1, process=training)
        server.kill()
        below = children(training.pid).values()
        os.kill(training.pid, signal.SIGKILL)
        training.communicate()
        assert gone(below, within=60)
        server.start()
        assert run("sync", "run", cwd=tmp_path).returncode == 0
        found = assert_mlflow_has_every_point_once(server.uri, tmp_path / "run")
        assert found.info.status == "FAILED"


def mlflow_runs_or_none(uri):
    try:
        return mlflow_runs(uri)[1]
    except AttributeError:
        return []


def test_the_mirror_reads_no_half_written_line_and_skips_a_torn_one(tmp_path):
    from runner.runs.journal import Journal

    journal = Journal(tmp_path)
    journal.append("note", text="first")
    with journal.path.open("a") as stream:
        stream.write('{"event": "note", "te')
    [(event, offset)] = list(events(tmp_path))
    assert event["text"] == "first"
    assert list(events(tmp_path, offset)) == []
    journal.append("note", text="second")
    assert [event["text"] for event, _ in events(tmp_path, offset)] == ["second"]


def test_a_write_that_the_disk_refuses_leaves_the_journal_as_it_was(tmp_path):
    """In a process of its own whose files may not grow beyond a few bytes."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from runner.runs.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.append('note', text='fits')\n"
        "size = journal.path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))\n"
        "try:\n"
        "    journal.append('note', text='does not fit')\n"
        "except OSError as error:\n"
        "    print(journal.path.stat().st_size == size, error.filename)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == f"True {tmp_path}/journal.jsonl\n", done.stderr
