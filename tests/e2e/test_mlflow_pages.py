"""MLflow's own pages on a sweep's runs, in a real browser: the list, the comparison, the charts."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.browser import Browser
from tests.conftest import TINY
from tests.e2e.processes import ENVIRONMENT, free_port, mlflow_runs, run, wait_until

SWEEP = [*TINY[1:3], "deploy.bench_s=0.01", "data.limit=120", "data.batch_size=16", "train.epochs=1",
         "schedule=constant", "train.log_every=1", "-m", "mode=cls,cls_distill", "compression=none,ptq"]  # fmt: skip
#: No assistant that covers the page on a first visit, and the menu of model training.
FIRST_VISIT = """
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"')
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with the store of a sweep of four runs, and of one more run of the same experiment."""
    folder = tmp_path_factory.mktemp("swept")
    alone = run(*TINY, "hydra.run.dir=alone", cwd=folder)
    assert alone.returncode == 0, alone.stderr
    done = run(*SWEEP, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(swept):
    """Name → address, as `runner ui` prints them, while it serves."""
    port = free_port()
    command = [sys.executable, "-m", "runner", "ui", "--port", str(port)]
    with (swept / "ui.log").open("w") as log:
        process = subprocess.Popen(command, cwd=swept, env=ENVIRONMENT, stdout=log, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), seconds=120, process=None)
        yield dict(re.findall(r"^(\w+) +(http\S+)", (swept / "ui.log").read_text(), re.MULTILINE))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened("Page.addScriptToEvaluateOnNewDocument", source=FIRST_VISIT)
        yield opened


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def show(browser, url, until):
    """Open a page and wait until a JavaScript expression has a value that counts; that value."""
    browser("Page.navigate", url="about:blank")
    browser.open(url, 1500, 1200, 1)
    found = []

    def ready():
        found[:] = [browser.run(f"return {until}")]
        return bool(found[0])

    wait_until(ready, seconds=90)
    return found[0]


def names(swept, swept_only=True):
    _, runs = mlflow_runs(f"sqlite:///{swept}/outputs/mlflow.db")
    return {one.info.run_name for one in runs if not swept_only or "sweep_id" in one.data.tags}


def test_the_list_has_exactly_the_runs_of_the_sweep(browser, pages, swept):
    every, wanted = names(swept, swept_only=False), names(swept)
    assert len(wanted) == 4
    assert len(every) == 5
    [other] = every - wanted
    shown = "(document.body?.innerText ?? '')"
    show(
        browser,
        pages["Charts"],
        f"{sorted(wanted)}.every((name) => {shown}.includes(name)) && !{shown}.includes('{other}')",
    )
    assert "4 matching runs" in browser.run(f"return {shown}")


def test_the_charts_have_one_line_a_run(browser, pages):
    show(browser, pages["Charts"], "document.querySelectorAll('.js-plotly-plot .bars').length")
    browser.run("""document.querySelector('input[placeholder="Search metric charts"]').focus()""")
    browser("Input.insertText", text="^train/loss$")
    # Beside each line lies a pale one, of the values before smoothing.
    lines = """
        const plots = [...document.querySelectorAll(".js-plotly-plot")]
        return plots.length === 1 && [...plots[0].querySelectorAll(".js-line")]
            .filter((line) => line.style.strokeOpacity === "1" && line.getAttribute("d").includes("L")).length"""
    wait_until(lambda: browser.run(lines) == 4, seconds=90)


def test_the_comparison_draws_mode_compression_and_final_accuracy(browser, pages):
    axes = """(() => {
        const labels = [...document.querySelectorAll(".parcoords .axis-title, .y-axis .axis-title")]
        return labels.map((one) => one.textContent)
    })()"""
    show(browser, pages["Compare"], f"{axes}.length")
    choose(browser, "#dubois-select-1", "mode")
    choose(browser, "#dubois-select-2", "final/top1")
    wait_until(lambda: {"compression", "mode", "final/top1"} <= set(browser.run(f"return {axes}")), seconds=60)
    assert browser.run("return document.querySelectorAll('.js-plotly-plot canvas').length")


def choose(browser, selector, name):
    """Take an option of a list, as a person would, by its title."""
    browser.run(f"""
        const pause = (ms) => new Promise((done) => setTimeout(done, ms))
        const press = (target) => target.dispatchEvent(new MouseEvent("mousedown", {{ bubbles: true }}))
        const box = document.querySelector("{selector}")
        press(box.closest(".du-bois-light-select-selector"))
        for (let tries = 0; tries < 200; tries++, await pause(50)) {{
            const names = document.querySelector(`#${{box.id}}_list`)
            const list = names?.parentElement.querySelector(".rc-virtual-list-holder")
            const option = list && [...list.querySelectorAll("[title]")].find((one) => one.title === "{name}")
            if (option) {{ option.click(); break }}
            if (list) list.scrollTop += 100
        }}
        press(document.body)
        box.blur()""")
