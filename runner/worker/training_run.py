"""Trains the run of a directory in a worker process: builds, trains or resumes, and finishes it."""

from __future__ import annotations

import contextlib
import logging
import os
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import paddle

from .. import config as cfg
from .. import files, parallel, runs, stored
from ..checkpoints import checkpoint, reading
from ..checkpoints.state import About
from ..config import store
from ..config.monitor import prominent
from ..config.rules import network_names
from ..data import identity
from ..deploy import manifest
from ..deploy.manifest import EXPORT
from ..errors import CheckpointError, ConfigError, DataError
from ..files.digests import text_digest
from ..metrics.names import with_k
from ..runs import compatible, protocol, sweep
from ..runs import result as results
from ..runs.journal import CHECKPOINTS, CONFIG, ENVIRONMENT, ORIGIN, RESULT, UNREADABLE, Journal
from ..terminal import counted
from ..tracking import lookup
from ..training.loop import fit
from ..training.state import Ending
from . import distilling, experiment, finetuning, provenance, same_teachers
from .callbacks import Callbacks
from .eta import TimeLeft
from .experiment import Experiment
from .finish import finish
from .notes import tell
from .observers import Follower, Recorder
from .progress import Display
from .stop_signal import StopSignal

log = logging.getLogger("runner")


def train(directory: Path, stop: StopSignal, attempt: int) -> int:
    """Build the run of a directory, train it and write its result. Returns the exit code."""
    ranks, heartbeat = parallel.join(), protocol.Heartbeat()
    if ranks.broadcast_from_first(protocol.check_verdict):
        return 0
    composed = os.environ.get(protocol.COMPOSED, "")
    if ranks.any_rank(ranks.broadcast_from_first(lambda: composed) != composed):
        raise ConfigError("The machines were not given the same overrides. Start all with the same command.")
    config = ranks.broadcast_from_first(lambda: store.read(directory / CONFIG))
    # Before anything is seeded.
    callbacks = Callbacks(config.train.callbacks if ranks.is_first else [], directory)
    saved, notes = ranks.broadcast_from_first(lambda: starting_point(directory, config, attempt))
    with reading.shared(saved, ranks) as own:
        run = experiment.build(config, own, ranks, directory / UNREADABLE)
    data = provenance.describe_data(run)
    if ranks.any_rank(ranks.broadcast_from_first(lambda: data["digest"]) != data["digest"]):
        raise DataError("The processes of this run do not have the same images. Give every machine the same ones.")
    if saved:
        notes += ranks.broadcast_from_first(
            lambda: [*check_data(saved, data), *same_teachers.check(saved, run.teachers, config.mode)]
        )
    distilling.precompute(config, run.training, run.notes)
    if not ranks.is_first:
        return assist(run, stop, heartbeat)
    notes += run.notes
    journal = open_journal(directory, run, saved, data, notes)
    display = open_display(directory, run)
    about = About(
        data=data["digest"],
        splits=data["digests"],
        classes=run.training.loaders.classes,
        plan=run.plan,
        teachers=run.teachers,
        config=text_digest((directory / CONFIG).read_text(encoding="utf-8")),
    )
    earlier = saved.state.seconds if saved else 0.0
    try:
        for text in [*run.about.lines(UNREADABLE), *notes]:
            display.note(text)
        with stop.after_the_step(), profiling(config.debug, directory) as profiler:
            recorder = Recorder(directory, run, journal, display, stop, heartbeat, profiler, about, earlier)
            callbacks.begin(config, run.training.progress.step, run.training.steps)
            ending = fit(run.training, callbacks.around(recorder))
    finally:
        display.close()
    if ending is Ending.interrupted and recorder.ends_early and not stop.received:
        log.info("stopped early: %s", recorder.ends_early)
        protocol.write_early_end(directory, recorder.ends_early)
        return stop.exit_code
    if ending is Ending.interrupted:
        log.info("stopped after step %d by signal %d", run.training.progress.step, stop.exit_code - 128)
        return stop.exit_code
    note_ending(run, ending, journal, display)
    parallel.separate(run.training.networks)
    with heartbeat.behind_the_last_step():
        finish(directory, run, journal, ending, run.training.precomputing_s + recorder.seconds)
        result = results.read(directory / RESULT)
        callbacks.tell("on_end", asdict(result) if result else {})
    return 0


def open_journal(
    directory: Path, run: Experiment, saved: reading.Saved | None, data: dict[str, Any], notes: list[str]
) -> Journal:
    """The journal, continued after the checkpoint that the run resumes from, with what is known before the first
    step."""
    files.write_json(directory / ENVIRONMENT, provenance.environment())
    journal = Journal(directory)
    if saved:
        checkpoint.rewind(directory, saved)
        # A completed run that is extended still has its old result.
        files.remove_file(directory / RESULT)
        for place in (directory, *(directory / name for name in network_names(run.config.mode))):
            files.remove_named(place / EXPORT, manifest.FILES)
    journal.continue_from(saved.progress.step if saved else 0)
    for note in notes:
        log.info("%s", note)
        journal.append("note", text=note)
    journal.append("dataset", **data)
    if run.about.unreadable:
        journal.artifact(UNREADABLE)
    if saved:
        _announce(directory, journal)
    journal.artifact(ENVIRONMENT)
    amp = "off" if run.training.precision.level == "O0" else run.config.amp.kind
    journal.append("tags", values={"device": run.device, "parameters": run.parameters, "amp": amp})
    return journal


def open_display(directory: Path, run: Experiment) -> Display:
    """The progress display of a run, starting at its current step."""
    training, settings = run.training, run.config.train
    left = TimeLeft(training.steps, training.validations_left, training.validation_steps, training.progress.step)
    metrics = with_k(training.metrics, training.k)
    shown = prominent([metric.name for metric in metrics], metrics, settings.monitor)
    return Display(training.steps, settings.epochs, left, shown, training.progress.step, sweep.prefix(directory))


def note_ending(run: Experiment, ending: Ending, journal: Journal, display: Display) -> None:
    """Note why training ended before its last step, and whether no evaluation could be compared."""
    progress, monitor = run.training.progress, run.config.train.monitor
    texts = []
    if ending is Ending.early:
        texts.append(f"stopped early: {monitor} did not improve in {progress.waited} evaluations (train.patience)")
    if run.training.loaders.val and progress.best is None:
        texts.append(f"{monitor} was always NaN: the last weights count as the best")
    for text in [*texts, *finetuning.never_trained(run.config, run.training.freezing, progress.step)]:
        tell(journal, text, display.note)


def assist(run: Experiment, stop: StopSignal, heartbeat: protocol.Heartbeat) -> int:
    """Train alongside the first process, which reads and writes all files. Returns the exit code."""
    with stop.after_the_step():
        ending = fit(run.training, Follower(run.training.ranks, stop, heartbeat))
    return stop.exit_code if ending is Ending.interrupted else 0


def _announce(directory: Path, journal: Journal) -> None:
    """Announce the checkpoints that a run resumes from.

    MLflow may not know a copied one, or one that was written just before a kill.
    """
    folder = directory / CHECKPOINTS
    for pointer in ("last", "best"):
        if name := reading.pointed(folder, pointer):
            journal.append("checkpoint", name=name, better=pointer == "best")


def starting_point(directory: Path, config: cfg.Config, attempt: int) -> tuple[reading.Saved | None, list[str]]:
    """The checkpoint that a run resumes from, and notes for the user about it.

    Errors: CheckpointError if an expected one is missing; ConfigError if it belongs to another composition.
    """
    match "auto" if attempt else config.checkpoint.resume:
        case "never":
            return None, []
        case "auto" if (directory / CHECKPOINTS / "last").is_file() or not (directory / ORIGIN).is_file():
            saved, notes = reading.newest(directory)
        case _:
            run = stored.read_text(directory / ORIGIN) or ""
            origin = lookup.directory_of(run, lookup.tracking_uri(config))
            compatible.check(store.read(origin / CONFIG), config, run, runs.overrides(origin))
            saved, notes = reading.newest(origin)
            if saved is None:
                raise CheckpointError(f"{run} has no checkpoint to resume from. Start again: checkpoint.resume=never")
            saved = checkpoint.adopt(origin, saved, directory)
    if saved:
        progress = saved.progress
        done = f"{counted(progress.step, 'step')}, {counted(progress.epoch, 'epoch')} done"
        notes.append(f"resumed from {saved.folder.name}: {done}")
    return saved, notes


def check_data(saved: reading.Saved, data: dict[str, Any]) -> list[str]:
    """Notes for the user if images changed since the checkpoint. Errors: DataError if that makes it another run."""
    before, now = saved.state.splits, data["digests"]
    if not before:
        return [f"{saved.folder.name} is of an earlier version: whether the images are still the same is unknown"]
    changed = {split: identity.difference(before.get(split), now.get(split)) for split in {**before, **now}}
    if decisive := [f"{split} {how}" for split, how in changed.items() if how and split != "test"]:
        # If one list is divided into splits, one more image moves others to another split.
        counts = [identity.images(digests) for digests in (before, now)]
        if counts[0] != counts[1]:
            decisive.append(f"all splits together have {counted(counts[1], 'image')} instead of {counts[0]}")
        raise DataError(
            f"The images of '{data['name']}' in {data['source']} are not those that {saved.folder} was trained on: "
            f"{'; '.join(decisive)}. Bring those back, or start a new run from its weights: checkpoint.init_from=RUN"
        )
    how = changed.get("test")
    return [f"the test images changed since the run began: test {how}"] if how else []


def profiling(debug: cfg.Debug, directory: Path) -> AbstractContextManager[Any]:
    """Paddle's profiler over steps 5 to 14, if the config asks for it; the trace opens in chrome://tracing."""
    if not debug.profile:
        return contextlib.nullcontext()
    write = paddle.profiler.export_chrome_tracing(str(directory / "profile"))
    return paddle.profiler.Profiler(scheduler=(5, 15), on_trace_ready=write)
