"""One process of a run: build, fit, finish. `python -m runner.worker RUN PARENT`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import paddle

from . import __version__, checkpoint, experiment, files, processes
from . import config as cfg
from .config import store
from .data import Images
from .errors import UserError
from .evaluation import Evaluation, evaluate
from .experiment import Experiment
from .journal import CHECKPOINTS, CONFIG, ENVIRONMENT, FAILURE, LOG, PLOTS, RANKS, RESULT, Journal
from .loop import Ending, Progress, fit
from .progress import Display

log = logging.getLogger("runner")


def main() -> None:
    """The process's entry: train the run of a directory and exit with the documented code."""
    directory, parent = Path(sys.argv[1]), int(sys.argv[2])
    processes.die_with_parent(parent)
    sys.exit(guarded(directory))


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
            if stop.received:
                # What a signal to the whole process group breaks is not a defect.
                return 128 + stop.received
            reason = f"{type(error).__name__}: {error}".strip().rstrip(".")
            return _failed(directory, f"{reason}. Where: {directory / LOG}", 1)


def _failed(directory: Path, message: str, exit_code: int) -> int:
    files.write_json(directory / RANKS / FAILURE, {"message": message, "exit_code": exit_code})
    return exit_code


def train(directory: Path, stop: StopSignal) -> int:
    """Build the run of a directory, train it and write its result. Returns the exit code."""
    config = store.read(directory / CONFIG)
    journal = Journal(directory)
    files.write_json(directory / ENVIRONMENT, environment())
    run = experiment.build(config)
    for note in run.notes:
        log.info("%s", note)
        journal.append("note", text=note)
    journal.append("dataset", **describe_data(run))
    amp = "off" if run.training.precision.level == "O0" else config.amp.kind
    journal.append("tags", values={"device": run.device, "parameters": str(run.parameters), "amp": amp})
    display = Display(run.training.steps, config.train.epochs)
    began = time.perf_counter()
    try:
        with stop.after_the_step(), profiling(config.debug, directory) as profiler:
            ending = fit(run.training, Recorder(directory, run, journal, display, stop, profiler))
    finally:
        display.close()
    if ending is Ending.interrupted:
        return 128 + stop.received
    finish(directory, run, journal, ending, time.perf_counter() - began)
    return 0


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
        self, directory: Path, run: Experiment, journal: Journal, display: Display, stop: StopSignal, profiler: Any
    ) -> None:
        self.directory, self.run, self.journal, self.display, self.stop = directory, run, journal, display, stop
        self.profiler = profiler

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""
        self.journal.metrics(progress.step, progress.epoch, values)
        self.display.training(progress.step, progress.epoch, values)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""
        values = {f"val/{name}": value for name, value in evaluation.values.items()}
        self.journal.metrics(progress.step, progress.epoch, values)
        self.display.validation(progress.step, progress.epoch, evaluation.values, better)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """Write the state to disk."""
        checkpoint.save(self.directory, self.run.training, better, self.run.config.checkpoint.keep)

    def stepped(self) -> bool:
        """Whether SIGINT or SIGTERM came."""
        if self.profiler:
            self.profiler.step()
        return self.stop.received != 0


def finish(directory: Path, run: Experiment, journal: Journal, ending: Ending, seconds: float) -> None:
    """Test the best weights once, draw the pictures and write `result.json`."""
    from . import plots

    training = run.training
    weights = checkpoint.read_weights(str(directory), "best")
    checkpoint.initialize(training.networks, training.networks.trained, weights, strict=True)
    evaluation = evaluate(training.networks, training.loaders.test, training.precision, training.k, details=True)
    student = evaluation.values
    final = {
        "final/top1": student["student/top1"],
        f"final/top{training.k}": student[f"student/top{training.k}"],
        "final/params": float(run.parameters),
    }
    test = {f"test/{name}": value for name, value in evaluation.values.items()}
    test |= {f"test/{metric}": student[f"student/{metric}"] for metric in ("top1", f"top{training.k}", "loss")}
    journal.metrics(training.progress.step, training.progress.epoch, test | final)
    predictions = evaluation.predictions["student"]
    for path in plots.draw(directory, predictions, training.loaders.source.test, training.loaders.classes):
        journal.artifact(f"{PLOTS}/{path.name}", PLOTS)
    _write_details(directory, run, evaluation)
    journal.artifact(CONFIG)
    journal.artifact("per_class.json")
    if isinstance(run.config.tracking, cfg.Mlflow) and run.config.tracking.checkpoints is cfg.Upload.best:
        best = checkpoint.pointed(directory / CHECKPOINTS, "best")
        journal.artifact(f"{CHECKPOINTS}/{best}", f"{CHECKPOINTS}/best")
    files.write_json(
        directory / RESULT,
        {
            "ending": ending.value,
            "final": {name.removeprefix("final/"): value for name, value in final.items()},
            "test": {name.removeprefix("test/"): value for name, value in test.items()},
            "test_images": evaluation.count,
            "monitor": run.config.train.monitor,
            "best": training.progress.best,
            "progress": asdict(training.progress),
            "seconds": seconds,
            "device": run.device,
        },
    )


def _write_details(directory: Path, run: Experiment, evaluation: Evaluation) -> None:
    """Per-class accuracy and confusion matrix of every network on the test split."""
    classes = run.training.loaders.classes
    details: dict[str, Any] = {"classes": classes}
    for name, predictions in evaluation.predictions.items():
        confusion = predictions.confusion(len(classes))
        accuracy = np.diag(confusion) / np.maximum(1, confusion.sum(axis=1))
        details[name] = {"top1": accuracy.tolist(), "confusion": confusion.tolist()}
    files.write_json(directory / "per_class.json", details)


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
