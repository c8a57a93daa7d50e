"""The parent of a run: starts the worker, watches it and settles the run's end. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
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
from .errors import STOPPED, ConfigError, ProcessLost, RunFailed
from .journal import CHECKPOINTS, CONFIG, FAILURE, LOG, OVERRIDES, RANKS, RESULT, Journal


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
    with Signals() as signals, _tracking(config, directory) as mirror:
        outcome = _inline(directory) if _wants_inline(config) else _worker(config, directory, signals)
        journal.append("ended", status=outcome.status, reason=outcome.reason)
        _drain(mirror, config, directory)
    if outcome.exit_code:
        raise RunFailed(outcome.reason, outcome.exit_code)
    return json.loads((directory / RESULT).read_text(encoding="utf-8"))


class Signals:
    """Within the context, SIGINT and SIGTERM go to the worker: the first lets it finish its step, a second ends it."""

    def __init__(self) -> None:
        self.first = 0
        self.worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._forward) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        again, self.first = bool(self.first), self.first or number
        if self.worker is not None:
            with contextlib.suppress(ProcessLookupError):
                self.worker.send_signal(signal.SIGKILL if again else number)


def prepare(config: cfg.Config, directory: Path, overrides: list[str]) -> None:
    """Write what the worker reads. Errors: ConfigError for a missing package or a directory that another run has."""
    for module, remedy in (
        ("paddle", "pip install paddlepaddle (CPU), or paddlepaddle-gpu as the README says"),
        ("mlflow", "pip install mlflow, or do without: tracking=none"),
    ):
        wanted = module == "paddle" or isinstance(config.tracking, cfg.Mlflow)
        if wanted and importlib.util.find_spec(module) is None:
            raise ConfigError(f"{module} is not installed: {remedy}")
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


def _worker(config: cfg.Config, directory: Path, signals: Signals) -> Outcome:
    """Train in a child."""
    threads = str(config.train.threads or os.cpu_count() or 1)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with (directory / LOG).open("ab") as log:
        signals.worker = subprocess.Popen(
            [sys.executable, "-m", "runner.worker", str(directory), str(os.getpid())], stderr=log, env=environment
        )
    if signals.first:
        signals.worker.send_signal(signals.first)
    return _outcome(signals.worker.wait(), directory, signals.first)


def _outcome(code: int, directory: Path, signal_received: int = 0) -> Outcome:
    """What a worker's exit code means."""
    failure = directory / RANKS / FAILURE
    if code == 0:
        return Outcome(0, "FINISHED", "")
    if failure.is_file():
        said = json.loads(failure.read_text(encoding="utf-8"))
        return Outcome(said["exit_code"], "FAILED", said["message"])
    if signal_received:
        code = 128 + signal_received
    if code in STOPPED:
        kept = (directory / CHECKPOINTS / "last").is_file()
        state = f"Its last checkpoint is in {directory}." if kept else "There was no checkpoint yet."
        return Outcome(code, "KILLED", f"Stopped by {STOPPED[code]}. {state}")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    reason = f"The training process ended with {name}. Log: {directory / LOG}"
    if code == -signal.SIGKILL:
        reason += "\nThe system may have run out of memory: lower data.batch_size, or raise train.accumulate."
    return Outcome(ProcessLost.exit_code, "FAILED", reason)


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


def _drain(mirror: subprocess.Popen[bytes] | None, config: cfg.Config, directory: Path) -> None:
    """Give the mirror time to send the end of the run."""
    if mirror is None:
        return
    assert isinstance(config.tracking, cfg.Mlflow)
    try:
        complete = mirror.wait(config.tracking.drain_s) == 0
    except subprocess.TimeoutExpired:
        complete = False
    if not complete:
        print(
            f"Not everything reached {config.tracking.uri}; the run itself is complete in {directory}. "
            f"Why: {directory / RANKS / 'tracking.log'}",
            file=sys.stderr,
        )
