"""One process of a run: build, fit, finish. `python -m runner.worker RUN PARENT`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import paddle

from . import __version__, checkpoint, experiment, files, processes, resume, runs
from . import config as cfg
from .compression import qat
from .config import store
from .config.rules import network_names
from .data import Images
from .deploy.manifest import EXPORT
from .errors import UNWRITABLE, CheckpointError, DataError, DiskError, UserError
from .evaluation import Evaluation
from .experiment import Experiment
from .finish import finish
from .journal import CHECKPOINTS, CONFIG, ENVIRONMENT, FAILURE, LOG, ORIGIN, RANKS, RESULT, Journal
from .loop import fit
from .progress import Display
from .training import Ending, Progress

log = logging.getLogger("runner")


def main() -> None:
    """The process's entry: train the run of a directory and exit with the documented code."""
    directory, parent = Path(sys.argv[1]), int(sys.argv[2])
    processes.die_with_parent(parent)
    processes.leave(guarded(directory))


def guarded(directory: Path) -> int:
    """Train, and turn every error into an exit code and a message that the parent shows."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", filename=directory / LOG, encoding="utf-8", force=True
    )
    logging.captureWarnings(True)
    with StopSignal() as stop:
        try:
            return train(directory, stop)
        except Interrupted:
            return 128 + stop.received
        except UserError as error:
            log.info("%s", "".join(traceback.format_exception(error)))
            return _failed(directory, str(error), error.exit_code)
        except Exception as error:
            log.info("%s", "".join(traceback.format_exception(error)))
            if isinstance(error, OSError) and _is_of_a_write(error, directory):
                return _failed(directory, str(DiskError.of(error, directory)), DiskError.exit_code)
            if stop.received:
                # What a signal to the whole process group breaks is not a defect.
                return 128 + stop.received
            reason = f"{type(error).__name__}: {error}".strip().rstrip(".")
            return _failed(directory, f"{reason}. Where: {directory / LOG}", 1)


def _is_of_a_write(error: OSError, directory: Path) -> bool:
    """Whether the disk of the run, and not some other file, is what failed."""
    return error.errno in UNWRITABLE and str(error.filename or directory).startswith(str(directory))


def _failed(directory: Path, message: str, exit_code: int) -> int:
    # On a full disk the exit code alone has to do.
    with contextlib.suppress(OSError):
        files.write_json(directory / RANKS / FAILURE, {"message": message, "exit_code": exit_code})
    return exit_code


def train(directory: Path, stop: StopSignal) -> int:
    """Build the run of a directory, train it and write its result. Returns the exit code."""
    config = store.read(directory / CONFIG)
    journal = Journal(directory)
    files.write_json(directory / ENVIRONMENT, environment())
    saved, notes = starting_point(directory, config)
    run = experiment.build(config, saved)
    data = describe_data(run)
    if saved:
        check_data(saved, data)
        checkpoint.rewind(directory, saved)
        # The result of what was complete before it was extended.
        (directory / RESULT).unlink(missing_ok=True)
        for place in (directory, *(directory / name for name in network_names(config.mode))):
            shutil.rmtree(place / EXPORT, ignore_errors=True)
        _announce(directory, journal)
    journal.continue_from(saved.progress.step if saved else 0)
    for note in [*notes, *run.notes]:
        log.info("%s", note)
        journal.append("note", text=note)
    journal.append("dataset", **data)
    amp = "off" if run.training.precision.level == "O0" else config.amp.kind
    parameters = str(int(run.costs["student"]["params"]))
    journal.append("tags", values={"device": run.device, "parameters": parameters, "amp": amp})
    about = {
        "data": data["digest"],
        "classes": run.training.loaders.classes,
        "plan": run.plan,
        "config": files.text_digest((directory / CONFIG).read_text(encoding="utf-8")),
    }
    earlier = saved.state["seconds"] if saved else 0.0
    display = Display(run.training.steps, config.train.epochs, run.training.progress.step)
    try:
        for note in [*notes, *run.notes]:
            display.note(note)
        with stop.after_the_step(), profiling(config.debug, directory) as profiler:
            recorder = Recorder(directory, run, journal, display, stop, profiler, about, earlier)
            ending = fit(run.training, recorder)
    finally:
        display.close()
    if ending is Ending.interrupted:
        log.info("stopped after step %d by signal %d", run.training.progress.step, stop.received)
        return 128 + stop.received
    if ending is Ending.early:
        progress = run.training.progress
        text = f"stopped early: {config.train.monitor} was no better in {progress.waited} evaluations (train.patience)"
        log.info("%s", text)
        display.note(text)
    finish(directory, run, journal, ending, recorder.seconds)
    return 0


def _announce(directory: Path, journal: Journal) -> None:
    """Tell MLflow of the checkpoints a run goes on with: it may not know a copied one, or one just before a kill."""
    folder = directory / CHECKPOINTS
    for pointer in ("last", "best"):
        if name := checkpoint.pointed(folder, pointer):
            journal.append("checkpoint", name=name, better=pointer == "best")


def starting_point(directory: Path, config: cfg.Config) -> tuple[checkpoint.Saved | None, list[str]]:
    """The checkpoint a run goes on from, and what a person should know about it.

    Errors: CheckpointError where there should be one and is none; ConfigError where it is of another composition.
    """
    match config.checkpoint.resume:
        case "never":
            return None, []
        case "auto" if (directory / CHECKPOINTS / "last").is_file() or not (directory / ORIGIN).is_file():
            saved, notes = checkpoint.newest(directory)
        case _:
            run = (directory / ORIGIN).read_text(encoding="utf-8")
            origin = runs.directory_of(run, runs.tracking_uri(config))
            resume.check(store.read(origin / CONFIG), config, run, runs.overrides(origin))
            saved, notes = checkpoint.newest(origin)
            if saved is None:
                raise CheckpointError(f"{run} has no checkpoint to go on from. Start it again: checkpoint.resume=never")
            saved = checkpoint.adopt(origin, saved, directory)
    if saved:
        progress = saved.progress
        notes.append(f"resumed from {saved.folder.name}: {progress.step} steps, {progress.epoch} epochs done")
    return saved, notes


def check_data(saved: checkpoint.Saved, data: dict[str, Any]) -> None:
    """Errors: DataError where the images are not those the run was trained on."""
    if saved.state["data"] != data["digest"]:
        raise DataError(
            f"The images of '{data['name']}' are not those that {saved.folder} was trained on ({data['source']}). "
            "Bring those back, or start a new run from its weights: checkpoint.init_from=RUN"
        )


def profiling(debug: cfg.Debug, directory: Path) -> AbstractContextManager[Any]:
    """Paddle's profiler over steps 5 to 14, where the config asks for it; the trace opens in chrome://tracing."""
    if not debug.profile:
        return contextlib.nullcontext()
    write = paddle.profiler.export_chrome_tracing(str(directory / "profile"))
    return paddle.profiler.Profiler(scheduler=(5, 15), on_trace_ready=write)


class Interrupted(BaseException):
    """SIGINT or SIGTERM came where no step has to be finished."""


class StopSignal:
    """Within the context, SIGINT and SIGTERM end what runs at once, or after the step where one is under way."""

    def __init__(self) -> None:
        self.received = 0
        self.waits = False

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or number
        if not self.waits:
            raise Interrupted

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within the context the loop asks whether a signal came."""
        self.waits = True
        yield
        self.waits = False


class Recorder:
    """Writes what the loop reports to the journal, the display and the checkpoints."""

    def __init__(
        self, directory: Path, run: Experiment, journal: Journal, display: Display, stop: StopSignal, profiler: Any,
        about: dict[str, Any], earlier_seconds: float,
    ) -> None:  # fmt: skip
        self.directory, self.run, self.journal, self.display, self.stop = directory, run, journal, display, stop
        self.profiler, self.about = profiler, about
        self.began = time.perf_counter() - earlier_seconds

    @property
    def seconds(self) -> float:
        """Seconds spent in the loop, those before a resumption included."""
        return time.perf_counter() - self.began

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""
        self.journal.metrics(progress.step, progress.epochs_begun, values)
        self.display.training(progress.step, progress.epochs_begun, values)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""
        values = {f"val/{name}": value for name, value in evaluation.values.items()}
        self.journal.metrics(progress.step, progress.epochs_begun, values)
        self.display.validation(progress.step, progress.epochs_begun, evaluation.values, better)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """Write the state to disk."""
        about = self.about | {"seconds": self.seconds}
        folder = checkpoint.save(self.directory, self.run.training, better, about)
        self.journal.append("checkpoint", name=folder.name, better=better)
        self._log_alphas(progress)

    def _log_alphas(self, progress: Progress) -> None:
        """Where the learnt clips of activations are: their spread as metrics, each by its name in the log."""
        networks = self.run.training.networks
        for name in networks.trained:
            alphas = {layer: float(alpha) for layer, alpha in qat.alphas(networks[name]).items()}
            if not alphas:
                continue
            log.info("step %d α of %s %s", progress.step, name, json.dumps(alphas))
            values = sorted(alphas.values())
            spread = {"min": values[0], "median": values[len(values) // 2], "max": values[-1]}
            self.journal.metrics(
                progress.step, progress.epochs_begun, {f"pact/{name}/{key}": value for key, value in spread.items()}
            )

    def stepped(self) -> None:
        """One step more for the profiler."""
        if self.profiler:
            self.profiler.step()

    def stopping(self) -> bool:
        """Whether SIGINT or SIGTERM came."""
        return self.stop.received != 0


def environment() -> dict[str, Any]:
    """What the run ran on: versions and hardware; no environment variables, which may hold secrets."""
    return {
        "runner": __version__,
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0,
    }


def describe_data(run: Experiment) -> dict[str, Any]:
    """The data set as MLflow shows it."""
    source = run.training.loaders.source
    splits = {"train": source.train, "test": source.test} | ({"val": source.val} if source.val else {})
    digest = files.digest([split.labels for split in splits.values()])
    if isinstance(source.test, Images):
        digest = files.digest([split.images for split in splits.values() if isinstance(split, Images)], digest)
    profile = {name: len(split) for name, split in splits.items()} | {"classes": len(source.classes)}
    place = getattr(run.config.data, "root", None) or getattr(run.config.data, "target", source.name)
    return {"name": source.name, "digest": digest, "source": str(place), "profile": profile}


if __name__ == "__main__":
    main()
