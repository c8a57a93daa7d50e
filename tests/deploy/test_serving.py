"""The exported network as a logged model of MLflow: logged once, and answering for images."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from runner.__main__ import command
from runner.config import Mlflow, store
from runner.deploy import manifest, pyfunc
from runner.deploy.predict import Deployed
from runner.runs.journal import Journal, tracked
from runner.tracking import logged_model
from runner.tracking.mlflow import Mirror
from tests.conftest import composed
from tests.docs.pages import ROOT, commands
from tests.e2e.processes import free_port, mlflow_runs, wait_until
from tests.odd_pictures import odd_pictures

from . import helpers


class Tracked:
    """A run with an export that MLflow has as a model."""

    def __init__(self, folder, replay=True):
        self.folder, self.directory = folder, folder / "run"
        self.tracking = Mlflow(uri=f"sqlite:///{folder}/mlflow.db")
        self.config = replace(composed(), tracking=self.tracking)
        helpers.export(self.directory / "export")
        store.write(self.config, self.directory / "config.yaml")
        (self.directory / "overrides.yaml").write_text("[]")
        self.journal = Journal(self.directory)
        self.journal.append("started", command=[])
        self.journal.append("model", path="export")
        if replay:
            self.replay()

    def replay(self):
        return Mirror(self.directory, self.config, self.tracking, print).replay()

    @property
    def run_id(self):
        return tracked(self.directory)["run_id"]

    def models(self):
        client, [run] = mlflow_runs(self.tracking.uri)
        return client.search_logged_models([run.info.experiment_id])

    def path(self):
        """Where `runs:/ID/model` is downloaded to."""
        from mlflow.artifacts import download_artifacts

        # MLflow 3.17 finds a logged model by its id only where the variable says.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.tracking.uri)
            return Path(download_artifacts(f"runs:/{self.run_id}/model", dst_path=str(self.folder)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Tracked(tmp_path_factory.mktemp("served"))


def picture(seed=0):
    """The content of a PNG."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def request(*values):
    return {"dataframe_split": {"columns": ["image"], "data": [[value] for value in values]}}


def text(content):
    return base64.b64encode(content).decode()


def assert_answers(predictions, folder, contents):
    expected = Deployed(folder)(contents)
    assert len(predictions) == len(contents)
    for prediction, probabilities in zip(predictions, expected, strict=True):
        assert prediction["class"] == helpers.CLASSES[probabilities.argmax()]
        assert prediction["probability"] == pytest.approx(probabilities.max(), abs=1e-6)
        assert list(prediction["probabilities"]) == helpers.CLASSES
        np.testing.assert_allclose(list(prediction["probabilities"].values()), probabilities, atol=1e-6)


def mlflow(run, *arguments):
    """`mlflow models …` on the run's model, in the background."""
    # MLflow looks for uvicorn on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": run.tracking.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": path,
    }
    command = [sys.executable, "-m", "mlflow", "models", *arguments, "-m", f"runs:/{run.run_id}/model"]
    return subprocess.Popen(
        [*command, "--env-manager", "local"], cwd=run.folder, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=(run.folder / f"{arguments[0]}.log").open("w"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(run):
    """The address of a real scoring server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = mlflow(run, "serve", "--host", "127.0.0.1", "--port", str(port))

    def answers():
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=2).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, process=process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)


def post(address, body):
    """(status, answer) of a scoring server."""
    call = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(call, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_server_answers_with_classes_and_probabilities(run, server):
    contents = [picture(0), picture(1)]
    status, answer = post(server, request(text(contents[0]), f"data:image/png;base64,{text(contents[1])}"))
    assert status == 200, answer
    assert_answers(answer["predictions"], run.directory / "export", contents)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("page", ["deployment.md", "tutorial.md"])
def test_the_command_of_the_pages_takes_a_photo_larger_than_an_argument(run, server, tmp_path, page):
    [line] = [line for line in commands(ROOT / "docs" / page) if line.startswith("curl")]
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    name = re.search(r"base64 -w0 (\S+?)\)", line)[1]
    Image.fromarray(noise).save(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1 << 17
    line = line.replace("http://127.0.0.1:5001", server)
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    assert_answers(predictions, run.directory / "export", [(tmp_path / name).read_bytes()])


@pytest.mark.slow
def test_the_server_answers_for_any_kind_of_picture(run, server):
    contents = [content for _, content in odd_pictures()]
    status, answer = post(server, request(*map(text, contents)))
    assert status == 200, answer
    assert_answers(answer["predictions"], run.directory / "export", contents)


def test_a_loaded_model_answers_for_any_kind_of_picture(run):
    from mlflow import pyfunc

    contents = [content for _, content in odd_pictures()]
    model = pyfunc.load_model(str(run.path()))
    assert_answers(
        model.predict(pandas.DataFrame({"image": list(map(text, contents))})), run.directory / "export", contents
    )


@pytest.mark.parametrize("wrong", ["no base64!", text(b"no image"), str(Path(__file__).resolve())])
def test_the_server_refuses_what_is_no_image_and_opens_no_path(server, wrong):
    status, answer = post(server, request(wrong))
    assert status == 400
    assert "not an image file in base64" in answer["message"] or "bytes are not an image" in answer["message"]


def test_mlflow_models_predict_answers_too(run):
    (run.folder / "request.json").write_text(json.dumps(request(text(picture()))))
    process = mlflow(run, "predict", "-i", "request.json", "-t", "json")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, (run.folder / "predict.log").read_text()
    assert_answers(json.loads(output)["predictions"], run.directory / "export", [picture()])


def test_the_model_needs_neither_paddle_nor_the_runner(run):
    script = """
import sys
from pathlib import Path
sys.path = [sys.argv[1] + "/code", *(place for place in sys.path if place != sys.argv[2])]
from runner_served.deploy import pyfunc
print(pyfunc._load_pyfunc(sys.argv[1] + "/data/export").predict({"image": [Path(sys.argv[3])]})[0]["class"])
print([name for name in ("paddle", "runner", "hydra") if name in sys.modules])
"""
    (run.folder / "a.png").write_bytes(picture())
    arguments = [str(run.path()), str(Path(__file__).parents[2]), "a.png"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=run.folder, capture_output=True, text=True, timeout=60
    )
    best = Deployed(run.directory / "export")([picture()]).argmax()
    assert done.stdout.splitlines() == [helpers.CLASSES[best], "[]"], done.stderr


def test_the_model_has_a_signature_an_example_and_only_the_requirements_of_its_engine(run):
    from mlflow.models import Model

    model = Model.load(str(run.path()))
    assert model.get_input_schema().input_names() == ["image"]
    assert model.get_output_schema().input_names() == ["class", "probability", "probabilities"]
    [example] = model.load_input_example(str(run.path()))["image"]
    assert pyfunc.Served(Deployed(run.directory / "export")).predict({"image": [example]})
    needed = {line.partition("==")[0] for line in (run.path() / "requirements.txt").read_text().split()}
    assert needed == {"mlflow", "numpy", "pillow", "onnxruntime"}


def test_the_model_is_an_output_of_its_run(run):
    [model] = run.models()
    _, [found] = mlflow_runs(run.tracking.uri)
    assert [output.model_id for output in found.outputs.model_outputs] == [model.model_id]
    assert (model.name, model.source_run_id, model.status.value) == ("model", run.run_id, "READY")


def test_serve_finds_an_export_by_the_run_s_id(run, monkeypatch, capsys):
    monkeypatch.setattr(Mlflow, "uri", run.tracking.uri)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command(["serve", run.run_id, "--port", str(port)]) == 2
        assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
        assert command(["serve", "0" * 32, "--port", str(port)]) == 3
        assert f"There is no run {'0' * 32}" in capsys.readouterr().err


def test_a_replay_from_the_start_adds_no_second_model(run):
    [before] = run.models()
    known = run.directory / "mlflow.json"
    known.write_text(json.dumps({"key": tracked(run.directory)["key"], "uri": run.tracking.uri}))
    run.replay()
    [after] = run.models()
    assert after.model_id == before.model_id


def test_an_upload_that_was_broken_off_is_finished(tmp_path, monkeypatch):
    from runner.tracking.artifacts import Artifacts

    run = Tracked(tmp_path, replay=False)
    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "send_folder", lambda *_arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.replay()
    [before] = run.models()
    run.replay()
    [after] = run.models()
    assert (before.model_id, before.status.value) == (after.model_id, "PENDING")
    assert after.status.value == "READY"


def test_a_new_export_becomes_the_runs_model(tmp_path):
    run = Tracked(tmp_path)
    described = manifest.read(run.directory / "export")
    manifest.write(run.directory / "export", replace(described, recommended=helpers.PADDLE))
    run.journal.append("model", path="export")
    run.replay()
    assert len(run.models()) == 2
    path = run.path()
    assert "paddlepaddle" in (path / "requirements.txt").read_text()
    export = path / "data" / "export"
    names = {file.relative_to(export).as_posix() for file in export.rglob("*") if file.is_file()}
    assert names == {"model.json", "paddle/model.json", "paddle/model.pdiparams"}


def test_an_export_that_is_gone_does_not_keep_the_rest_from_mlflow(tmp_path):
    run = Tracked(tmp_path)
    (run.directory / "export" / "model.json").unlink()
    run.journal.append("model", path="export")
    run.journal.append("ended", status="FINISHED", reason="", exit_code=0)
    assert run.replay()
    assert len(run.models()) == 1


def test_every_module_of_the_model_is_there():
    root = Path(logged_model.__file__).parents[1]
    assert all((root / module).is_file() for module in logged_model.MODULES)
