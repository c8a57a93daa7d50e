"""Makes the pictures of the README and docs/ from real runs: `python -m docs.pictures [--out docs/images]`.

`result.png` is a terminal at the end of a run; `mlflow_compare.png` and `mlflow_chart.png` are MLflow on the runs of a
small sweep, `report.png` is the top of its report. Everything happens in a temporary folder and on 127.0.0.1.
Needs Linux with tmux and Chromium, and about five minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.browser import Browser

COLUMNS, LINES = 110, 26
RUN = "python -m runner mode=cls_distill model=mobilenet_v3_small_x0_5 schedule=cosine train.epochs=8"
SWEEP = "mode=cls,cls_distill compression=none,qat,fpgm model=mobilenet_v3_small_x0_5 name=digits"
SMALL = "optimizer.lr=0.01 schedule=cosine data.batch_size=32 train.epochs=10"
#: What the comparison and the charts of MLflow show, chosen in its page as a person would.
PARAMETERS, METRICS = ["mode", "compression"], ["final/macs", "final/latency_ms_p50", "final/top1"]
CHARTS = "^train/(loss|top1|lr)$|^val/student/(loss|top1|macro_f1)$"

ENVIRONMENT = os.environ | {"LANG": "C.UTF-8", "COLORTERM": "truecolor", "MLFLOW_DISABLE_TELEMETRY": "true"}
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: {background} }}
pre {{ margin: 0; padding: 16px 20px; width: max-content; background: {background}; color: {foreground};
       font: 14px/19px "DejaVu Sans Mono", monospace }}
</style><pre>{code}</pre>"""
#: Runs before a page of MLflow does: no assistant, the menu of model training, no toolbars; and what drives the page.
MLFLOW = """
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"')
const pause = (ms) => new Promise((done) => setTimeout(done, ms))
async function find(look) {
  for (let tries = 0; tries < 300; tries++, await pause(100)) { const found = look(); if (found) return found }
  throw new Error("MLflow's page has changed: nothing is found by " + look)
}
const element = (selector) => find(() => document.querySelector(selector))
const press = (target) => target.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }))
async function choose(selector, names) {
  const box = await element(selector)
  press(box.closest(".du-bois-light-select-selector"))
  const list = (await element(`#${box.id}_list`)).parentElement.querySelector(".rc-virtual-list-holder")
  for (const name of names) {
    list.scrollTop = 0
    const option = await find(() => {
      const shown = [...list.querySelectorAll("[title]")].find((one) => one.title === name)
      if (!shown) list.scrollTop += 150
      return shown
    })
    option.click()
    await pause(200)
  }
  press(document.body)
  box.blur()
}
async function tidy() {
  (await element('[aria-label="Toggle sidebar"]')).click()
  const style = document.createElement("style")
  style.textContent = ".modebar, [data-assistant-ui] { display: none !important }"
  document.head.append(style)
}
"""


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description="Make the pictures of the README and docs/ from real runs.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    out = parser.parse_args().out.resolve()
    for tool in ("tmux", "chromium"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: apt-get install -y {tool}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        end = terminal(folder)
        comparison, curves = sweep(folder)
        with server(folder) as address, Browser(folder / "profile") as browser:
            draw(browser, end, folder / "terminal.html", out / "result.png")
            compare(browser, address + comparison, out / "mlflow_compare.png")
            charts(browser, address + curves, out / "mlflow_chart.png")
            [report] = folder.rglob("report.html")
            browser.open(report.as_uri(), 1280, 1440, 1.25)
            time.sleep(1)
            browser.photograph(out / "report.png")
    for path in sorted(out.glob("*.png")):
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


def until(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of `look`. Errors: SystemExit where it has none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.3)
    sys.exit(f"Waited {seconds:.0f} s in vain for {what}.")


def found(pattern: str, text: str) -> str:
    """The first group of a pattern's first match. Errors: SystemExit without any."""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else sys.exit(f"There is no {pattern} in:\n{text}")


def stop(process: subprocess.Popen[Any], how: signal.Signals) -> None:
    """End a process; kill it where it does not end by itself."""
    process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


def terminal(folder: Path) -> str:
    """The screen, as ANSI text, at the end of a run that was typed into a shell."""
    tmux = ["tmux", "-u", "-f", os.devnull, "-S", str(folder / "tmux")]
    environment = ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def call(*arguments: str) -> str:
        command = [*tmux, *arguments]
        return subprocess.check_output(command, env=environment, cwd=folder, timeout=20).decode()

    def screen(pattern: str) -> str | None:
        shown = call("capture-pane", "-e", "-p")
        return shown if re.search(pattern, shown, re.MULTILINE) else None

    shell = ["env", "PS1=$ ", "bash", "--norc", "--noprofile"]
    call("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), *shell)
    try:
        until(lambda: screen(r"^\$"), 20, "the shell's prompt")
        call("send-keys", RUN, "Enter")
        return until(lambda: screen("^Compare "), 300, "the end of the run")
    finally:
        call("kill-server")


def sweep(folder: Path) -> list[str]:
    """Run the sweep; the paths that it prints of MLflow's comparison and of its charts."""
    command = [sys.executable, "-m", "runner", "-m", *SWEEP.split(), *SMALL.split()]
    printed = subprocess.check_output(command, cwd=folder, env=ENVIRONMENT, timeout=900, text=True)
    return [found(rf"^{page} +http://[^/]+(/\S+)", printed) for page in ("Compare", "Charts")]


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """MLflow on the runs of the folder, as `runner ui` serves it: its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        place = probe.getsockname()
    command = [sys.executable, "-m", "runner", "ui", "--port", str(place[1])]
    with (folder / "ui.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        with socket.socket() as probe:
            until(lambda: probe.connect_ex(place) == 0, 90, "runner ui")
        yield f"http://127.0.0.1:{place[1]}"
    finally:
        stop(process, signal.SIGINT)


def draw(browser: Browser, screen: str, page: Path, path: Path) -> None:
    """Photograph a terminal's screen, without the empty lines at its end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(screen.rstrip()))
    page.write_text(console.export_html(theme=MONOKAI, code_format=TERMINAL, inline_styles=True), encoding="utf-8")
    browser.open(page.as_uri(), 1400, 900, 1.5)
    time.sleep(1)
    box = browser.run("return document.querySelector('pre').getBoundingClientRect().toJSON()")
    clip = {key: box[key] for key in ("x", "y", "width", "height")}
    browser.photograph(path, clip=clip | {"scale": 1})


def compare(browser: Browser, url: str, path: Path) -> None:
    """Photograph MLflow's comparison of the sweep's runs."""
    browser("Page.addScriptToEvaluateOnNewDocument", source=MLFLOW)
    browser.open(url, 1400, 900, 1.5)
    browser.run(f"""
        (await element('[data-testid="clear-button"]')).click()
        await choose("#dubois-select-1", {PARAMETERS})
        await choose("#dubois-select-2", {METRICS})
        await tidy(); await pause(2000)""")
    browser.photograph(path)


def charts(browser: Browser, url: str, path: Path) -> None:
    """Photograph the learning curves of the sweep's runs in MLflow, the list wide enough for their names."""
    browser("Page.navigate", url="about:blank")
    browser.open(url, 1400, 1115, 1.5)
    browser.run("""await tidy(); (await element('input[placeholder="Search metric charts"]')).focus()""")
    browser("Input.insertText", text=CHARTS)
    edge = browser.run("""document.activeElement.blur(); await pause(2000)
        return (await element(".react-resizable")).getBoundingClientRect().right + 1""")
    wide = edge + 165
    for kind, x in ("Moved", edge), ("Pressed", edge), ("Moved", wide - 9), ("Moved", wide), ("Released", wide):
        browser.mouse(kind, x, 700)
    browser.mouse("Moved", 700, 60)
    browser.run("await pause(3000)")
    browser.photograph(path)


if __name__ == "__main__":
    main()
