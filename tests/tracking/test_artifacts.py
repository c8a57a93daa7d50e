"""Where the files of runs go and come from: a server that names other places, or never ends, does no harm."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import store
from runner.deploy import manifest
from runner.errors import ForeignPath
from runner.runs import journal
from runner.tracking import logged_model, rebuilt, stores
from runner.tracking.artifacts import Artifacts, refuse_foreign
from runner.tracking.mlflow import Mirror
from tests.test_architecture import PACKAGE, imports

RUN, MODEL = "a" * 32, f"m-{'b' * 32}"
SERVER = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "location",
    ["/home/me", "file:///home/me/.config", "file:/etc", "runs:/x/y", "models:/x/1", "http://other/api/x",
     "https://127.0.0.1:5000.other/x", "mlflow-artifacts://other/1/x", "outputs"],
)  # fmt: skip
@pytest.mark.parametrize("uri", [SERVER, "sqlite:////tmp/mlflow.db"])
def test_a_place_that_is_not_of_the_run_alone_is_refused(uri, location):
    with pytest.raises(ForeignPath):
        refuse_foreign(uri, location, RUN)


@pytest.mark.parametrize(
    "location",
    ["mlflow-artifacts:/1/x/artifacts", "mlflow-artifacts://127.0.0.1:5000/x", f"file:///data/1/{RUN}/artifacts",
     f"/data/1/{RUN}/artifacts", "s3://bucket/1/x"],
)  # fmt: skip
def test_places_as_mlflow_makes_them_are_taken(location):
    refuse_foreign(SERVER, location, RUN)
    refuse_foreign(SERVER, location.replace(RUN, MODEL), MODEL)


@given(st.text(max_size=40))
def test_no_other_text_is_the_id_of_a_run(text):
    with pytest.raises(ForeignPath):
        refuse_foreign(SERVER, "mlflow-artifacts:/1/x", text)


class Hostile:
    """A tracking server on loopback with one run, of its own making; the context ends it."""

    def __init__(self, location, run_id=RUN):
        self.info = {
            "run_id": run_id, "run_uuid": run_id, "experiment_id": "1", "run_name": "x", "status": "FINISHED",
            "lifecycle_stage": "active", "artifact_uri": location, "start_time": 1, "end_time": 2,
        }  # fmt: skip
        self.tags = []
        self.pages = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_POST = do_PUT = do_PATCH = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        found = urlparse(request.path)
        place, call = found.path.rpartition("/")[::2]
        experiment = {"experiment_id": "1", "name": "default", "artifact_location": "x", "lifecycle_stage": "active"}
        run = {"info": self.info, "data": {"tags": self.tags, "params": [], "metrics": []}}
        match place.rpartition("/")[2], call:
            case "experiments", "search":
                answer = {"experiments": [experiment]}
            case "experiments", _:
                answer = {"experiment": experiment}
            case "runs", "search":
                answer = {"runs": [run] if self.tags else []} | self.pages.pop(json.loads(body).get("page_token"), {})
            case "runs", "create" | "get":
                self.tags = self.tags or json.loads(body)["tags"]
                answer = {"run": run | {"data": {"tags": self.tags, "params": [], "metrics": []}}}
            case "mlflow-artifacts", "artifacts":
                inner = "checkpoints" in parse_qs(found.query).get("path", [""])[0]
                answer = {"files": [] if inner else [{"path": "config.yaml", "is_dir": False, "file_size": 10}]}
            case _ if "mlflow-artifacts" in request.path:
                return self.drip(request)
            case _:
                answer = {}
        request.send_response(200)
        request.end_headers()
        request.wfile.write(json.dumps(answer).encode())
        return None

    def drip(self, request):
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" ")
                time.sleep(0.1)
        except OSError:
            pass


def mirror_of(directory, uri, told=None):
    """What sends a run to a store."""
    config = store.read(directory / journal.CONFIG)
    stores.Delivery(directory).switch_to(uri)
    return Mirror(directory, config, config.tracking, (told if told is not None else []).append)


def test_a_server_does_not_have_files_of_this_machine_overwritten(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.yaml").write_text("mine")
    with Hostile(str(tmp_path / "home")) as server, pytest.raises(ForeignPath, match="does not belong to that run"):
        mirror_of(run, server.uri).replay()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["config.yaml"]
    assert (tmp_path / "home" / "config.yaml").read_text() == "mine"


def test_what_a_server_calls_a_run_is_not_a_path():
    with Hostile("mlflow-artifacts:/1/x", "../../../x") as server:
        server.tags = [{"key": "a", "value": "b"}]
        with pytest.raises(ForeignPath, match="no run"):
            rebuilt.experiment(server.uri, "default")


def test_all_pages_of_an_experiment_are_asked_for(monkeypatch):
    with Hostile("mlflow-artifacts:/1/x") as server:
        server.tags = [{"key": "a", "value": "b"}]
        server.pages = {None: {"next_page_token": "2"}, "2": {"next_page_token": "3"}, "3": {}}
        monkeypatch.setattr(rebuilt, "_directory", lambda client, uri, entity: entity.info.run_id)
        assert rebuilt.experiment(server.uri, "default") == [RUN] * 3


def test_a_download_that_never_ends_does_not_hold_the_process_up():
    """In a process of its own: threads that wait for a server would be waited for at its end."""
    code = (
        "import sys\n"
        "from runner.errors import ServerLost\n"
        "from runner.tracking import answers, artifacts, server\n"
        "answers.CALL_S = artifacts.CALL_S = 1.0\n"
        "try:\n"
        "    server.fetch(*sys.argv[1:])\n"
        "except ServerLost as error:\n"
        "    print(error)\n"
    )
    with Hostile("mlflow-artifacts:/1/x") as server:
        server.tags = [{"key": "checkpoint.best", "value": "step-00000001"}]
        done = subprocess.run([sys.executable, "-c", code, server.uri, RUN], capture_output=True, text=True, timeout=60)
    assert "does not give the files" in done.stdout, done.stderr


def test_a_file_that_would_not_fit_on_the_disk_is_not_asked_for(tmp_path):
    place = tmp_path / RUN / "artifacts"
    place.mkdir(parents=True)
    (place / "x").write_text("content")
    artifacts = Artifacts(f"sqlite:///{tmp_path}/x.db", place.as_uri(), RUN)
    assert artifacts.sizes() == {"x": 7}
    with pytest.raises(OSError, match="more than is free"):
        artifacts.fetch("x", 10**18, tmp_path / "y")
    artifacts.fetch("x", 7, tmp_path / "y")
    assert (tmp_path / "y").read_text() == "content"


def test_a_pipe_among_the_files_of_a_run_is_not_waited_for(run):
    (run / "plots").mkdir(exist_ok=True)
    os.mkfifo(run / "plots" / "pipe")
    (run / "plots" / "inner").mkdir()
    (run / "plots" / "inner" / "x.txt").write_text("sent")
    journal.Journal(run).artifact("plots", "all")
    mirror = mirror_of(run, f"sqlite:///{run.parent}/store.db")
    mirror.replay()
    sent = {path.name for path in (run.parent / "mlartifacts").rglob("all/*")}
    assert "inner" in sent
    assert "pipe" not in sent
    assert [path.read_text() for path in (run.parent / "mlartifacts").rglob("all/inner/x.txt")] == ["sent"]


def module_of(imported):
    """The file, relative to the package, that an imported name comes from."""
    parts = imported.split(".")[1:]
    for length in range(len(parts), 0, -1):
        place = "/".join(parts[:length])
        for file in (f"{place}.py", f"{place}/__init__.py"):
            if (PACKAGE / file).is_file():
                return file
    return "__init__.py"


@pytest.mark.parametrize("name", logged_model.MODULES)
def test_what_goes_along_with_a_logged_model_imports_nothing_that_stays_behind(name):
    own = {one for one in imports(PACKAGE / name, everywhere=False) if one.split(".")[0] == "runner"}
    assert {module_of(one) for one in own} <= {*logged_model.MODULES}


def test_a_served_model_knows_a_run_by_the_name_of_its_config():
    assert manifest.OF_A_RUN == journal.CONFIG
