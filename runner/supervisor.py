"""The parent of a run: starts the worker, watches it and settles the run's end. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from . import config as cfg
from . import device, files, resume, runs
from .config import store
from .errors import STOPPED, UNWRITABLE, ConfigError, DiskError, ProcessLost, RunFailed
from .journal import CHECKPOINTS, CONFIG, FAILURE, LOCK, LOG, ORIGIN, OVERRIDES, RANKS, RESULT, SWEEP, Journal, locked
from .tracking.process import MirrorProcess

#: Delivers the runs of this command. A sweep does not wait for it between its jobs.
MIRROR = MirrorProcess()
#: Signals that asked this command to stop, also those that came when a run was as good as complete.
signals_received: list[int] = []


@dataclass
class Outcome:
    """How a run ended."""

    exit_code: int
    status: str
    """FINISHED, FAILED or KILLED, as MLflow has it."""
    reason: str
    """One message for the user; empty when all went well."""


def run(
    config: cfg.Config, directory: Path, overrides: list[str], tags: dict[str, str] | None = None
) -> dict[str, Any]:
    """Train a config in a directory; returns its `result.json`. `tags` are further tags of the run.

    Errors: UserError with the reason and the exit code of a run that did not finish.
    """
    require_packages(config)
    try:
        (directory / RANKS).mkdir(parents=True, exist_ok=True)
        with locked(directory / LOCK, patience_s=2) as lock:
            if lock is None:
                raise ConfigError(f"{directory} is being trained by another process. Wait for it, or choose another.")
            if not prepare(config, directory, overrides, tags or {}):
                print(f"{os.path.relpath(directory)} is complete: nothing is left to train.")
                return result(directory)
            outcome = supervise(config, directory, lock)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise DiskError.of(error, directory) from error
    if outcome.exit_code:
        raise RunFailed(outcome.reason, outcome.exit_code)
    return result(directory)


def result(directory: Path) -> dict[str, Any]:
    """`result.json` of a finished run."""
    return json.loads((directory / RESULT).read_text(encoding="utf-8"))


def require_packages(config: cfg.Config) -> None:
    """Errors: ConfigError naming a missing package and how to install it."""
    for module, remedy in (
        ("paddle", "pip install paddlepaddle (CPU), or paddlepaddle-gpu as the README says"),
        ("mlflow", "pip install mlflow, or do without: tracking=none"),
    ):
        wanted = module == "paddle" or isinstance(config.tracking, cfg.Mlflow)
        if wanted and importlib.util.find_spec(module) is None:
            raise ConfigError(f"{module} is not installed: {remedy}")


def prepare(config: cfg.Config, directory: Path, overrides: list[str], tags: dict[str, str]) -> bool:
    """Write what the worker reads. Whether there is something to train.

    Errors: ConfigError for a directory that holds another run, or one that is not to be continued.
    """
    journal, changed = Journal(directory), {}
    again = (directory / CONFIG).exists()
    if again:
        if config.checkpoint.resume != "auto":
            raise ConfigError(
                f"{directory} already holds a run. Continue it: checkpoint.resume=auto. For a new one choose another "
                "folder: hydra.run.dir=DIR"
            )
        stored = store.read(directory / CONFIG)
        changed = resume.check(stored, config, str(directory), runs.overrides(directory))
        if runs.state(directory).status == "FINISHED" and not changed.keys() & set(resume.LENGTH):
            return False
        if (directory / RESULT).exists():
            _refuse_shorter(config, result(directory))
        (directory / RANKS / FAILURE).unlink(missing_ok=True)
    if config.checkpoint.resume not in ("never", "auto"):
        files.write_text(directory / ORIGIN, config.checkpoint.resume)
    store.write(config, directory / CONFIG)
    files.write_text(directory / OVERRIDES, yaml.safe_dump(overrides))
    journal.append("resumed" if again else "started", command=sys.argv)
    tags = tags | {f"resumed.{key}": str(value) for key, value in changed.items() if key in resume.TOLD}
    if tags:
        journal.append("tags", values=tags)
    return True


def _refuse_shorter(config: cfg.Config, done: dict[str, Any]) -> None:
    steps, epochs = config.train.max_steps, config.train.epochs
    if (steps or done["progress"]["step"]) < done["progress"]["step"] or (not steps and epochs < done["epochs"]):
        raise ConfigError(
            f"The run has {done['progress']['step']} steps, {done['epochs']} epochs behind it already. Raise "
            "train.epochs (or train.max_steps), or start another run from its weights: checkpoint.init_from=RUN"
        )


def supervise(config: cfg.Config, directory: Path, lock: int) -> Outcome:
    """Run the worker of a prepared directory to its end, while its journal is mirrored."""
    with Signals() as signals:
        if isinstance(config.tracking, cfg.Mlflow):
            MIRROR.follow(directory, config.tracking)
        outcome = _inline(directory) if _wants_inline(config) else _worker(config, directory, signals, lock)
        if signals.first:
            signals_received.append(signals.first)
        end = {"status": outcome.status, "reason": outcome.reason, "exit_code": outcome.exit_code}
        try:
            Journal(directory).append("ended", **end)
            MIRROR.ended(directory, None)
        except OSError:
            MIRROR.ended(directory, end | {"time": time.time()})
    return outcome


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


def _wants_inline(config: cfg.Config) -> bool:
    return isinstance(config.launch, cfg.Local) and config.launch.inline


def _inline(directory: Path) -> Outcome:
    """Train in this very process."""
    from . import worker

    return _outcome(worker.guarded(directory), directory)


def _worker(config: cfg.Config, directory: Path, signals: Signals, lock: int) -> Outcome:
    """Train in a child."""
    environment = os.environ | device.environment(config.train.threads)
    with (directory / LOG).open("ab") as log:
        signals.worker = subprocess.Popen(
            [sys.executable, "-m", "runner.worker", str(directory), str(os.getpid())],
            stderr=log,
            env=environment,
            # The directory stays locked until the worker is gone as well.
            pass_fds=[lock],
        )
    if signals.first:
        signals.worker.send_signal(signals.first)
    return _outcome(signals.worker.wait(), directory, signals.first)


def _is_swept(directory: Path) -> bool:
    return (directory.parent / SWEEP).is_file()


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
        place = os.path.relpath(directory)
        how = "sweep.resume=true" if _is_swept(directory) else f"hydra.run.dir={place} checkpoint.resume=auto"
        state = f"Continue with the same command and {how}" if kept else "There was no checkpoint yet."
        return Outcome(code, "KILLED", f"Stopped by {STOPPED[code]}. {state}")
    if code == DiskError.exit_code:
        return Outcome(code, "FAILED", f"{directory} takes no more files, not even the reason. Is its disk full?")
    if code < 0 and sys.stdout.isatty():
        # The progress bar had hidden the cursor.
        print("\x1b[?25h", end="", flush=True)
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    reason = f"The training process ended with {name}. Log: {directory / LOG}"
    if code == -signal.SIGKILL:
        reason += "\nThe system may have run out of memory: lower data.batch_size, or raise train.accumulate."
    return Outcome(ProcessLost.exit_code, "FAILED", reason)
