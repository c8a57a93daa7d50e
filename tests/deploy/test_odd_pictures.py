"""Two hundred odd pictures: the trained network, its exported files and both servers say the same of each."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runner.config import store
from runner.deploy import pyfunc, serving
from runner.deploy.predict import Deployed, answers
from runner.runs.journal import CONFIG
from runner.worker import finished
from tests.conftest import INLINE, run_inline
from tests.e2e.processes import free_port
from tests.odd_pictures import odd_pictures

from . import helpers
from .test_http import ask

PICTURES = [content for _, content in odd_pictures()]


@pytest.fixture(
    scope="module", params=["crop", *(pytest.param(how, marks=pytest.mark.slow) for how in ("pad", "stretch"))]
)
def run(request, tmp_path_factory):
    """The folder of a run with exported files."""
    folder = tmp_path_factory.mktemp("odd")
    done = run_inline(
        *INLINE, "model=mobilenet_v3_small_x0_35", "hydra.run.dir=run", "data.image_size=[40,24]",
        # Two steps that are large enough to tell pictures apart.
        "data.crop_ratio=0.9", "schedule=constant", "optimizer.lr=0.1",
        f"data.resize={request.param}", "data.background=[10,200,30]", "deploy.formats=[onnx,paddle]", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def trained(run):
    """What the trained network says: float32 [200, classes]."""
    given = list(answers(finished.classifier(run, store.read(run / CONFIG, []), "student"), PICTURES))
    assert [answer.error for answer in given] == [""] * len(PICTURES)
    return np.stack([answer.probabilities for answer in given])


def test_the_pictures_differ_by_much_more_than_the_answers_may(trained):
    assert trained.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("path", [helpers.ONNX, helpers.PADDLE])
def test_an_exported_file_says_what_the_trained_network_says(run, trained, path):
    np.testing.assert_allclose(Deployed(run / "export", path)(PICTURES), trained, atol=2e-5)


def test_the_served_model_says_what_the_trained_network_says(run, trained):
    model = pyfunc._load_pyfunc(str(run / "export"))
    given = model.predict({"image": [base64.b64encode(content).decode() for content in PICTURES]})
    said = np.array([[answer["probabilities"][name] for name in model.deployed.classes] for answer in given])
    np.testing.assert_allclose(said, trained, atol=2e-5)


def test_the_http_server_says_what_the_trained_network_says(run, trained):
    server = serving.Server(Deployed(run / "export", helpers.ONNX), "127.0.0.1", free_port())
    with ThreadPoolExecutor(5) as pool:
        pool.submit(server.serve_forever)
        given = list(pool.map(lambda content: ask(server.server_port, content=content), PICTURES))
        server.shutdown()
        server.server_close()
    assert {status for status, _ in given} == {200}
    said = np.array([list(answer["probabilities"].values()) for _, answer in given])
    np.testing.assert_allclose(said, trained, atol=2e-5)
