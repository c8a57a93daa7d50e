"""The parent of a run: starts the worker, watches it and settles the run's end. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from . import config as cfg
from .config import store
from .errors import ConfigError, ProcessLost, RunFailed
from .journal import CONFIG, FAILURE, LOG, OVERRIDES, RANKS, RESULT, Journal

STOPPED = {128 + signal.SIGINT: "Ctrl-C", 128 + signal.SIGTERM: "SIGTERM"}


@dataclass
class Outcome:
    """How a run ended."""

    exit_code: int
    status: str
    """FINISHED, FAILED or KILLED, as MLflow has it."""
    reason: str
    """One message for the user; empty when all went well."""


def run(config: cfg.Config, directory: Path, overrides: list[str]) -> dict[str, Any]:
    """Train a config in a directory; returns its `result.json`.

    Errors: UserError with the reason and the exit code of a run that did not finish.
    """
    prepare(config, directory, overrides)
    journal = Journal(directory)
    journal.append("started", command=sys.argv)
    with _tracking(config, directory) as mirror:
        outcome = _inline(directory) if _wants_inline(config) else _worker(config, directory)
        journal.append("ended", status=outcome.status, reason=outcome.reason)
        _drain(mirror, config)
    if outcome.exit_code:
        raise RunFailed(outcome.reason, outcome.exit_code)
    return json.loads((directory / RESULT).read_text(encoding="utf-8"))


def prepare(config: cfg.Config, directory: Path, overrides: list[str]) -> None:
    """Write what the worker reads. Errors: ConfigError for a directory that another run has."""
    if (directory / CONFIG).exists():
        raise ConfigError(f"{directory} already holds a run. Choose another folder: hydra.run.dir=DIR")
    (directory / RANKS).mkdir(parents=True, exist_ok=True)
    store.write(config, directory / CONFIG)
    (directory / OVERRIDES).write_text(yaml.safe_dump(overrides), encoding="utf-8")


def _wants_inline(config: cfg.Config) -> bool:
    return isinstance(config.launch, cfg.Local) and config.launch.inline


def _inline(directory: Path) -> Outcome:
    """Train in this very process."""
    from . import worker

    return _outcome(worker.guarded(directory), directory)


def _worker(config: cfg.Config, directory: Path) -> Outcome:
    """Train in a child; SIGINT and SIGTERM let it finish its step, a second one ends it at once."""
    threads = str(config.train.threads or os.cpu_count() or 1)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with (directory / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "runner.worker", str(directory), str(os.getpid())], stderr=log, env=environment
        )
        with _forwarding(child):
            code = child.wait()
    return _outcome(code, directory)


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    received = 0

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number if received == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(code: int, directory: Path) -> Outcome:
    """What a worker's exit code means."""
    if code == 0:
        return Outcome(0, "FINISHED", "")
    if code in STOPPED:
        return Outcome(code, "KILLED", f"Stopped by {STOPPED[code]}. The state of now is in {directory}.")
    failure = directory / RANKS / FAILURE
    if failure.is_file():
        said = json.loads(failure.read_text(encoding="utf-8"))
        return Outcome(said["exit_code"], "FAILED", said["message"])
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = (
        " The system may have run out of memory: lower data.batch_size, or raise train.accumulate."
        if code == -9
        else ""
    )
    return Outcome(
        ProcessLost.exit_code, "FAILED", f"The training process ended with {name}.{hint} Log: {directory / LOG}"
    )


@contextlib.contextmanager
def _tracking(config: cfg.Config, directory: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """The process that mirrors the journal into MLflow, where the config wants one."""
    if not isinstance(config.tracking, cfg.Mlflow):
        yield None
        return
    environment = {
        # Fail soon: the mirror itself tries again.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "OMP_NUM_THREADS": "1",
    }
    with (directory / RANKS / "tracking.log").open("ab") as log:
        mirror = subprocess.Popen(
            [sys.executable, "-m", "runner.tracking", str(directory), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | environment,
        )
        try:
            yield mirror
        finally:
            if mirror.poll() is None:
                mirror.kill()
                mirror.wait()


def _drain(mirror: subprocess.Popen[bytes] | None, config: cfg.Config) -> None:
    """Give the mirror time to send the end of the run."""
    if mirror is None:
        return
    assert isinstance(config.tracking, cfg.Mlflow)
    try:
        mirror.wait(config.tracking.drain_s)
    except subprocess.TimeoutExpired:
        print(f"Not everything reached {config.tracking.uri} within {config.tracking.drain_s:.0f} s.", file=sys.stderr)
