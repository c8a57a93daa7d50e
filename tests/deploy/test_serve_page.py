"""The page of `runner serve` for a browser, its answers' text, and the parameters that it takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from runner.deploy import http_handler, manifest, serving
from runner.deploy.predict import Deployed
from tests.browser import Browser
from tests.deploy import helpers
from tests.deploy.test_http import ask, exchange, in_thread, jpeg

CLASSES = ["Äpfel", "<b>Bär</b>", "caf\udce9", "7"]


@pytest.fixture(params=["one", "many"])
def served(tmp_path, request):
    """A server in a thread of this process, whose classes are not ASCII; with one label or several."""
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), classes=CLASSES)
    if request.param == "many":
        described = replace(described, labels="many", activation="sigmoid", thresholds=[0.0, 0.0, 1.0, 1.0])
    manifest.write(folder, described)
    with in_thread(Deployed(folder)) as server:
        yield server


def get(port, path, method="GET"):
    return exchange(port, f"{method} {path} HTTP/1.1\r\n\r\n".encode())


def test_names_are_text_and_not_escapes(served):
    _, head, body = get(served.server_port, serving.HEALTH)
    assert "Content-Type: application/json; charset=utf-8" in head
    assert json.loads(body)["classes"] == CLASSES
    # A name that is not text has to be escaped, and all of that answer is.
    served.deployed.manifest.classes = served.deployed.classes = ["Äpfel", "Bär", "c", "d"]
    assert '"Äpfel", "Bär"' in get(served.server_port, serving.HEALTH)[2].decode()
    content = jpeg()
    request = f"POST {serving.PREDICT} HTTP/1.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    assert '"Äpfel": ' in exchange(served.server_port, request + content)[2].decode()


def test_top_is_how_many_classes_have_their_probability_in_the_answer(served):
    _, every = ask(served.server_port, content=jpeg())
    assert list(every["probabilities"]) == CLASSES
    best = sorted(every["probabilities"].items(), key=lambda one: -one[1])
    for top in (1, 3, 4, 100):
        status, answer = ask(served.server_port, path=f"{serving.PREDICT}?top={top}", content=jpeg())
        assert status == 200
        assert list(answer.pop("probabilities").items()) == best[:top]
        assert answer == {name: value for name, value in every.items() if name != "probabilities"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/predict?tpo=1", "Unknown parameter 'tpo'. Valid: /predict has top."),
        ("/predict?top=1&threshold", "Unknown parameter 'threshold'. Valid: /predict has top."),
        *[(f"/predict?top={top}", "it is a whole number from 1, as top=3") for top in ("", "0", "-1", "x", "9" * 5000)],
        ("/predict?top=1&top=2", "top is given twice"),
        ("/health?top=1", "Unknown parameter 'top'. Valid: /predict has top, /health has none."),
        ("/?%C3%A4=1", "Unknown parameter 'ä'. Valid: /predict has top, / has none."),
    ],
)
@pytest.mark.parametrize("served", ["one"], indirect=True)
def test_a_parameter_that_is_not_known_is_refused_with_those_that_are(served, path, words):
    method = "POST" if path.startswith(serving.PREDICT) else "GET"
    status, answer = ask(served.server_port, method, path, jpeg() if method == "POST" else b"")
    assert status == 400
    assert words in answer["error"]
    assert ask(served.server_port, path="/predict?", content=jpeg())[0] == 200


@pytest.mark.parametrize("served", ["one"], indirect=True)
def test_the_page_is_one_file_that_may_load_nothing_else(served):
    status, head, body = get(served.server_port, serving.PAGE)
    content, policy = http_handler.page()
    assert (status, body) == (200, content)
    assert "Content-Type: text/html; charset=utf-8" in head
    assert f"Content-Security-Policy: {policy}" in head
    assert "unsafe" not in policy
    assert b"//" not in content.replace(b"    // ", b"")
    assert get(served.server_port, serving.PAGE, "HEAD")[2] == b""
    assert ask(served.server_port, content=b"no picture", path=serving.PAGE)[0] == 405


@pytest.mark.slow
def test_a_browser_shows_the_classes_of_a_photo_that_is_chosen(served, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium")
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    (tmp_path / "text.jpg").write_text("no picture")
    _, answer = ask(served.server_port, content=jpeg())
    address = f"http://127.0.0.1:{served.server_port}"
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"{address}/", 390, 800, 1)
        browser.run("while (document.readyState !== 'complete') await new Promise((done) => setTimeout(done, 20))")

        def choose(name):
            node = browser("DOM.getDocument")["root"]["nodeId"]
            node = browser("DOM.querySelector", nodeId=node, selector="input")["nodeId"]
            browser.run("document.querySelector('p').textContent = ''")
            browser("DOM.setFileInputFiles", files=[str(tmp_path / name)], nodeId=node)
            browser.run("""while (['', '…'].includes(document.querySelector('p').textContent))
                await new Promise((done) => setTimeout(done, 20))""")
            return browser.run("return document.querySelector('p').textContent")

        said = choose("photo.jpg")
        assert set(said.split(", ")) == ({answer["class"]} if "class" in answer else set(answer["labels"]))
        rows = browser.run("return [...document.querySelectorAll('tr')].map((one) => [...one.cells].map((cell) =>"
                           " cell.querySelector('meter')?.value ?? cell.textContent))")  # fmt: skip
        best = np.argsort(-np.array(list(answer["probabilities"].values())), kind="stable")
        assert len(rows) == len(CLASSES)
        for (name, bar, percent), place in zip(rows, best, strict=True):
            probability = answer["probabilities"][CLASSES[place]]
            assert "\udce9" in CLASSES[place] or name == CLASSES[place]
            assert bar == pytest.approx(probability)
            assert percent == f"{100 * probability:.1f} %"
        assert browser.run("return document.querySelector('img').naturalWidth") > 0
        assert "are not an image" in choose("text.jpg")
        assert browser.run("return document.querySelector('table').hidden")
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.failures == []
        assert {url for url in browser.asked if not url.startswith("blob:")} <= {
            f"{address}/", f"{address}/predict?top=10", f"{address}/favicon.ico",
        }  # fmt: skip
