"""Tests with the mark `gpu` need an NVIDIA GPU, or `gpu(n)` so many; what they found is printed as one table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import paddle
import pytest

from runner import config as cfg
from runner import device
from tests.gpu.recorded import COUNT, Gpus

#: Whether GPUs are only recorded: then what a stand-in cannot answer (`gpu(real=True)`) is left out.
RECORDED = COUNT in os.environ
if RECORDED:
    Gpus(int(os.environ[COUNT])).install()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).with_name("site")), os.environ.get("PYTHONPATH", "")]
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("gpu")
    if mark is None:
        return
    needed, found = (mark.args or (1,))[0], device.gpus()
    if found < needed:
        pytest.skip(f"needs {needed} NVIDIA GPU{'s' * (needed > 1)}, and Paddle sees {found or 'none'}: docs/gpu.md")
    if RECORDED and mark.kwargs.get("real"):
        pytest.skip("needs a real GPU: nothing stands in for it")


@pytest.fixture(autouse=True)
def chosen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of a GPU begin on the first one, and leave Paddle on the device that it was on."""
    before = paddle.device.get_device()
    if request.node.get_closest_marker("gpu"):
        device.choose(cfg.Train(device=cfg.Device.gpu, threads=1 if RECORDED else None))
    yield
    paddle.device.set_device(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a test of a GPU that ran: its name, how it ended, and what it measured."""
    rows = []
    for result in ("passed", "failed", "error", "xfailed"):
        for report in terminalreporter.stats.get(result, []):
            figures = dict(getattr(report, "user_properties", ()))
            if "tests/gpu/" in report.nodeid and "test_recorded.py" not in report.nodeid:
                name = report.nodeid.partition("::")[2].removeprefix("test_").replace("_", " ")
                rows.append((name, "differs" if result == "xfailed" else result, str(figures.get("figure", ""))))
    if not rows:
        return
    names = [paddle.device.cuda.get_device_name(number) for number in range(device.gpus())]
    terminalreporter.section(f"on {', '.join(names)}" if not RECORDED else "on GPUs that are only recorded")
    terminalreporter.line(
        f"Paddle {paddle.__version__}, CUDA {paddle.version.cuda()}, Python {platform.python_version()}"
    )
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, result, figure in rows:
        terminalreporter.line(f"{name:<{widths[0]}}  {result:<{widths[1]}}  {figure}".rstrip())
