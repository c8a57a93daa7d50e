"""The observers of the loop: one writes the journal, the display and the checkpoints, the others follow."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Protocol

from ..checkpoints import checkpoint
from ..checkpoints.state import About
from ..compression import qat
from ..parallel import Ranks
from ..runs.early_stopping import StoppingRule, may_end_early
from ..runs.journal import Journal
from ..runs.protocol import Heartbeat
from ..training.evaluation import Evaluation
from ..training.state import Progress
from .experiment import Experiment
from .notes import tell
from .progress import Display

log = logging.getLogger("runner")


class Stop(Protocol):
    """Whether a signal arrived."""

    received: int


class Recorder:
    """Writes what the loop reports to the journal, the display and the checkpoints."""

    def __init__(
        self, directory: Path, run: Experiment, journal: Journal, display: Display, stop: Stop, heartbeat: Heartbeat,
        profiler: Any, about: About, earlier_seconds: float,
    ) -> None:  # fmt: skip
        self.directory, self.run, self.journal, self.display, self.stop = directory, run, journal, display, stop
        self.heartbeat, self.profiler, self.about = heartbeat, profiler, about
        self.began = time.perf_counter() - earlier_seconds
        self.stopping_rule = StoppingRule(directory, run.config) if may_end_early(directory, run.config) else None
        self.ends_early = ""

    @property
    def seconds(self) -> float:
        """Seconds spent in the loop, those before a resumption included."""
        return time.perf_counter() - self.began

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""
        training = self.run.training
        if training.clock:
            per_epoch = training.loaders.train.batches_per_epoch
            self.display.resize(training.steps, -(-training.steps // per_epoch), training.validations_left)
        self.journal.metrics(progress.step, progress.epochs_begun, values)
        self.display.training(progress.step, progress.epochs_begun, values)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""
        values = {f"val/{name}": value for name, value in evaluation.values.items()}
        self.journal.metrics(progress.step, progress.epochs_begun, values)
        self.display.validation(progress.step, progress.epochs_begun, evaluation.values, _standing(progress, better))
        self._log_alphas(progress)
        log.info("step %d %s", progress.step, json.dumps({key: round(value, 5) for key, value in values.items()}))
        if self.stopping_rule and progress.step < self.run.training.steps:
            self.ends_early = self.stopping_rule.judge(progress.step)

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """Write the state to disk."""
        self.journal.sync()
        run = self.run
        folder = checkpoint.save(self.directory, run.training, better, self.about, self.seconds, run.trained_on)
        self.journal.append("checkpoint", name=folder.name, better=better)
        self.run.training.ranks.barrier()

    def noted(self, text: str) -> None:
        """A note for the journal, the log and the display."""
        tell(self.journal, text, self.display.note)
        # The loop notes cuts.
        self.journal.append("tags", values={"parameters": self.run.parameters})

    def _log_alphas(self, progress: Progress) -> None:
        """Log PACT's learnt clips: their spread as metrics, each one by name in the log."""
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
        """A heartbeat; the display and the profiler advance a step."""
        self.heartbeat.beat()
        self.display.left.stepped()
        if self.profiler:
            self.profiler.step()

    def stopping(self) -> bool:
        """Whether SIGINT or SIGTERM came, or the sweep ends the run early; also a heartbeat."""
        self.heartbeat.beat()
        return self.stop.received != 0 or bool(self.ends_early)


def _standing(progress: Progress, better: bool) -> str:
    """How the last validation ranks among all: of equal ones the later weights win."""
    if not better:
        return ""
    *earlier, last = progress.scores
    return "equal to the best so far, and later" if earlier and last == max(earlier) else "best so far"


class Follower:
    """The observer of every process but the first: it waits for the first one to write, and reports nothing."""

    def __init__(self, ranks: Ranks, stop: Stop, heartbeat: Heartbeat) -> None:
        self.ranks, self.stop, self.heartbeat = ranks, stop, heartbeat

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """Left to the first process."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """Left to the first process."""

    def noted(self, text: str) -> None:
        """Left to the first process."""

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """Wait until the first process has written it."""
        self.ranks.barrier()

    def stepped(self) -> None:
        """A heartbeat."""
        self.heartbeat.beat()

    def stopping(self) -> bool:
        """Whether SIGINT or SIGTERM came to this process; asked for where something was done."""
        self.heartbeat.beat()
        return self.stop.received != 0
