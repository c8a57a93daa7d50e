"""What the tests share: composing a config, running the command, one tiny finished run."""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import gc
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from runner import __main__ as main
from runner import device
from runner.cli import compose
from runner.cli.config_dir import config_dir
from runner.config import Config, store

#: Overrides that make any composition finish in about a second.
#: One thread: several tests share the cores. What is exported has tests of its own.
TINY = [
    "+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "train.threads=1", "train.plots=false",
    "deploy.formats=[]",
]  # fmt: skip
#: Overrides of such a run in the tests' own process, of any model and with an export.
INLINE = [
    "+debug=fast_dev_run",
    "train.threads=1",
    "train.plots=false",
    "tracking=none",
    "launch.inline=true",
    "deploy.bench_s=0.01",
]

# What commands remember of their user stays with the tests.
if "XDG_STATE_HOME" not in os.environ:
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="runner-state-")
    atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
for name, value in device.environment(2).items():
    os.environ.setdefault(name, value)
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", metavar="K/N", help="only the K-th of N shares of the tests, such as 3/8; K from 0")


def pytest_collection_finish() -> None:
    """What was imported stays to the end: looking through it for garbage again and again takes a sixth of the time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one share: tests of a module stay together, since they have what is costly to make in common."""
    if share := config.getoption("--share"):
        number, shares = map(int, share.split("/"))
        kept = [item for item in items if zlib.crc32(item.nodeid.partition("::")[0].encode()) % shares == number]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept


@functools.cache
def _composed(overrides: tuple[str, ...], _folder: str) -> Config:
    """Composing takes a fifth of a second, and parametrized tests begin with the same overrides."""
    compose.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return store.from_composition(hydra_compose("config", list(overrides)))


def composed(*overrides: str) -> Config:
    """The typed config of some overrides."""
    return copy.deepcopy(_composed(overrides, os.getcwd()))


@pytest.fixture(autouse=True)
def _gradients_are_recorded_afterwards() -> Iterator[None]:
    """What a test leaves off would spoil those behind it, and what the package leaves off a training."""
    yield
    if paddle := sys.modules.get("paddle"):
        recorded, dynamic = paddle.is_grad_enabled(), paddle.in_dynamic_mode()
        paddle.set_grad_enabled(True)
        assert recorded, "gradients are off"
        assert dynamic, "Paddle is in static mode"


@pytest.fixture(scope="session")
def config_of() -> Callable[..., Config]:
    return composed


def run_command(
    *arguments: str, cwd: Path, timeout: float = 120, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m runner` in a folder, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | (env or {}),
    )


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_command


def run_inline(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Do what `python -m runner` does in a folder, in the tests' own process: a second instead of six."""
    trains = not arguments or "=" in arguments[0]
    before, out, err = os.getcwd(), io.StringIO(), io.StringIO()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.command([*arguments, *(["launch.inline=true"] if trains else [])])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(before)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture
def here() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_inline


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run in `run`, its MLflow store in `outputs`, and what it printed in two files."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_command(*TINY, "train.plots=true", "hydra.run.dir=run", "name=tested", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder
