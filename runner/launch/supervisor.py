"""The parent of a run: starts workers, watches them and records the run's end. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import yaml

from .. import config as cfg
from .. import device, files, runs, terminal
from ..config import store
from ..deploy import manifest
from ..deploy.manifest import EXPORT, MANIFEST
from ..errors import UNWRITABLE, ConfigError, Damaged, ProcessLost, RunFailed, UserError
from ..files.digests import text_digest
from ..files.disk_errors import run_disk_error
from ..processes import locked
from ..runs import compatible, protocol, sweep
from ..runs import result as results
from ..runs.early_stopping import STOPPED_EARLY, may_end_early
from ..runs.journal import CONFIG, LOCK, ORIGIN, OVERRIDES, RANKS, RESULT, Journal, refuse_other_files
from ..runs.result import Result
from ..terminal import counted
from ..tracking import summary, tracker
from . import forked, nodes, workers
from .command import Command
from .forward_signals import ToWorkers
from .missing import refuse_missing, refuse_missing_data, refuse_unusable_trackers
from .outcome import Outcome, outcome_of
from .system_metrics import SystemMetrics

#: Seconds in which the other commands of a run can learn that there is nothing to train.
TELL_S = 60.0


def run(
    command: Command, config: cfg.Config, directory: Path, overrides: list[str], tags: dict[str, str] | None = None
) -> Result | None:
    """Train a config in a directory; returns its result, None if another command writes that or it ended early.

    `tags` are further tags of the run. Errors: UserError with the reason and the exit code of a run that did not
    finish.
    """
    require_paddle()
    node = nodes.node(config.launch)
    try:
        if node.first:
            _assist(command, config, directory, node)
            return None
        refuse_other_files(directory)
        if directory.is_dir():
            # Before the lock is written: a link in place of its folder would lead it elsewhere.
            files.refuse_links(directory)
        (directory / RANKS).mkdir(parents=True, exist_ok=True)
        with locked(directory / LOCK, patience_s=2) as lock:
            if lock is None:
                raise ConfigError(f"{directory} is being trained by another process. Wait for it, or choose another.")
            if may_end_early(directory, config) and runs.state(directory).status == STOPPED_EARLY:
                terminal.say(f"{os.path.relpath(directory)} was ended early. sweep.pruner=none continues it.")
                return None
            if not prepare(config, directory, overrides, tags or {}):
                _notify_other_commands(config, node, "", 0)
                terminal.say(f"{os.path.relpath(directory)} is complete: nothing is left to train.")
                if config.deploy.formats and not (directory / EXPORT / MANIFEST).is_file():
                    print(f"It is not exported. Later: {manifest.command(directory / EXPORT)}")
                return result(directory)
            outcome = supervise(command, config, directory, node, lock)
    except UserError as error:
        if not node.first:
            _notify_other_commands(config, node, str(error), error.exit_code)
        raise
    except OSError as error:
        if error.errno not in UNWRITABLE and directory.exists():
            raise
        raise run_disk_error(error, directory) from error
    if outcome.exit_code:
        raise RunFailed(outcome.reason, outcome.exit_code, outcome.kind)
    if outcome.status == STOPPED_EARLY:
        terminal.say(f"{sweep.prefix(directory)}stopped early: {outcome.reason}")
        return None
    return result(directory)


def _notify_other_commands(config: cfg.Config, node: nodes.Node, message: str, exit_code: int) -> None:
    """Have the commands of the other processes end like this one, if each was started separately."""
    if node.world_size == node.processes:
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / RANKS).mkdir()
        verdict = protocol.verdict(message, exit_code)
        workers.Workers(node, Path(folder), config, verdict=verdict).wait(min(config.launch.timeout_s, TELL_S))


def _assist(command: Command, config: cfg.Config, directory: Path, node: nodes.Node) -> None:
    """Run the workers of a node other than the first, which alone reads and writes the run. Errors: as in `run`."""
    (directory / RANKS).mkdir(parents=True, exist_ok=True)
    with ToWorkers(directory) as signals:
        outcome = _work(command, config, directory, node, signals, locks=[])
    if node.is_given and outcome.status != "FAILED":
        # A separate folder, since that of the first process is unknown; a failure's message names its log.
        files.remove_named(directory, [f"{RANKS}/{path.name}" for path in (directory / RANKS).iterdir()])
    if outcome.exit_code:
        raise RunFailed(outcome.reason, outcome.exit_code, outcome.kind)


def result(directory: Path) -> Result:
    """`result.json` of a finished run. Errors: Damaged."""
    content = results.read(directory / RESULT, whole=True)
    if content is None:
        raise Damaged(f"{directory / RESULT} is missing. Continue the run, which writes it: checkpoint.resume=auto")
    return content


def require_paddle() -> None:
    """Errors: ConfigError if Paddle is not installed, or there is no room for it."""
    device.require_memory()
    tracker.require_package("paddle", "pip install paddlepaddle (CPU), or paddlepaddle-gpu as the README says")


def prepare(config: cfg.Config, directory: Path, overrides: list[str], tags: dict[str, str]) -> bool:
    """Write what the worker reads. Returns whether there is something to train.

    Errors: ConfigError for a directory that holds another run, or one that may not be resumed; DataError for missing
    images.
    """
    journal, changed = Journal(directory), {}
    again = (directory / CONFIG).exists()
    if again and config.checkpoint.resume != "auto":
        again = not runs.forget_refused(directory)
    if again:
        if config.checkpoint.resume != "auto":
            raise ConfigError(
                f"{directory} already holds a run. Continue it: checkpoint.resume=auto. For a new one choose another "
                "folder: hydra.run.dir=DIR"
            )
        try:
            before = store.read(directory / CONFIG)
            changed = compatible.check(before, config, str(directory), runs.overrides(directory))
        except ConfigError:
            # One that was refused before it had read its data has nothing to continue.
            if not runs.forget_refused(directory):
                raise
            again = False
    if again:
        done = results.read(directory / RESULT, whole=True)
        if done and runs.state(directory).status == "FINISHED" and not changed.keys() & set(compatible.LENGTH):
            return False
        if done:
            _refuse_shorter(config, done)
    if again:
        # Its weights are those of its checkpoint.
        refuse_unusable_trackers(config)
        refuse_missing_data(config)
    else:
        refuse_missing(config)
    if config.checkpoint.resume not in ("never", "auto"):
        files.write_text(directory / ORIGIN, config.checkpoint.resume)
    store.write(config, directory / CONFIG)
    files.write_text(directory / OVERRIDES, yaml.safe_dump(overrides))
    composed = text_digest((directory / CONFIG).read_text(encoding="utf-8"))
    journal.append("resumed" if again else "started", command=sys.argv, config=composed)
    tags = tags | {f"resumed.{key}": str(value) for key, value in changed.items() if key in compatible.TOLD}
    if tags:
        journal.append("tags", values=tags)
    return True


def _refuse_shorter(config: cfg.Config, done: Result) -> None:
    steps, epochs = config.train.max_steps, config.train.epochs
    if config.train.max_minutes:
        # If its time is up it trains no further, and its result is written once more.
        return
    if (steps or done.final_progress.step) < done.final_progress.step or (not steps and epochs < done.epochs):
        raise ConfigError(
            f"The run was already trained for {counted(done.final_progress.step, 'step')}, "
            f"{counted(done.epochs, 'epoch')}. "
            "Raise train.epochs (or train.max_steps), or start another run from its weights: checkpoint.init_from=RUN"
        )


def supervise(command: Command, config: cfg.Config, directory: Path, node: nodes.Node, lock: int) -> Outcome:
    """Run the workers of a prepared directory to their end, while its journal is mirrored."""
    with ToWorkers(directory) as signals:
        if sweep.is_swept(directory):
            summary.begin(directory.parent, config)
        for name, settings in config.tracking.trackers.items():
            command.mirrors.follow(directory, name, settings)
        # The directory stays locked until the workers are gone as well.
        inline = isinstance(config.launch, cfg.Local) and config.launch.inline
        outcome = _inline(command, directory) if inline else _work(command, config, directory, node, signals, [lock])
        if signals.first:
            command.signals_received.append(signals.first)
        end = {"status": outcome.status, "reason": outcome.reason, "exit_code": outcome.exit_code}
        try:
            Journal(directory).append("ended", **end)
            command.mirrors.ended(directory, None)
        except OSError:
            command.mirrors.ended(directory, end | {"time": time.time()})
    return outcome


def _inline(command: Command, directory: Path) -> Outcome:
    """Train in this very process."""
    protocol.clear_failure(directory, 0)
    protocol.clear_early_end(directory)
    code = command.train_inline(directory)
    return outcome_of(workers.FailedProcess(0, code) if code else None, directory)


def _work(
    command: Command, config: cfg.Config, directory: Path, node: nodes.Node, signals: ToWorkers, locks: list[int]
) -> Outcome:
    """Train in children, again if one was lost and the config allows that."""
    attempt, composed = 0, _digest(config)
    tracking = config.tracking
    measures = tracking.system_metrics and not node.first
    metrics = SystemMetrics(directory, tracking.system_metrics_s) if measures else None
    while True:
        protocol.clear_early_end(directory)
        for local in range(node.processes):
            protocol.clear_failure(directory, node.first + local)
        template = None if forked.refusal(config, directory, node.world_size, attempt) else command.template
        signals.workers = workers.Workers(
            node, directory, config, attempt, locks, composed=composed, worker=command.worker, template=template
        )
        if signals.first:
            signals.workers.send(signal.SIGTERM if signals.first == signal.SIGHUP else signals.first)
        ended = signals.workers.wait(config.launch.timeout_s, functools.partial(_look, command, signals, metrics))
        outcome = outcome_of(ended, directory, signals.first, config.launch, node)
        if outcome.exit_code != ProcessLost.exit_code or attempt == config.launch.max_restarts or signals.first:
            return outcome
        if node.world_size > node.processes:
            if signals.workers.trained:
                # The other commands have ended: their processes are no longer needed.
                return outcome
            # The processes of the earlier attempt must be gone, or new ones could connect to them.
            time.sleep(2 * workers.GRACE_S)
        attempt += 1
        note = f"start {attempt + 1} of {config.launch.max_restarts + 1}: {outcome.reason}"
        terminal.say(note)
        if not node.first:
            Journal(directory).append("note", text=note)


def _look(command: Command, signals: ToWorkers, metrics: SystemMetrics | None) -> None:
    """The command's periodic work while the workers run."""
    signals.look()
    command.mirrors.look()
    if metrics:
        metrics.look()


def _digest(config: cfg.Config) -> str:
    """A digest of everything that must be equal in all commands of a run; `launch` may differ by machine."""
    leaves = {key: value for key, value in store.flatten(config).items() if not key.startswith("launch.")}
    return text_digest(json.dumps(leaves, sort_keys=True))
