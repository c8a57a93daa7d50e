"""A run as a report sees it, read from its directory."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files, runs, terminal
from ..config.monitor import metrics_of
from ..data.about import About
from ..deploy import quantization
from ..deploy.manifest import EXPORT
from ..deploy.quantization import Quantization
from ..errors import Damaged, ForeignPath
from ..metrics import Metric
from ..metrics.names import find, headline, monitored_metric, present
from ..runs import explained as explanations
from ..runs import history, journal, sweep
from ..runs import result as results
from ..runs.result import Result
from ..runs.swept import REPEATS, key_of, of_jobs
from . import charts, costs

#: Points of all curves of a chart together, and fewest points of each.
ALTOGETHER, FEWEST = 30_000, 30
#: Overrides by which a run goes on where it was, or must not; with another run's name in their place it begins there.
CONTINUING = ("checkpoint.resume=auto", "checkpoint.resume=never")

#: Choices that do not say of what: several config groups have them.
COMMON = ("none", "off", "default", "custom", "rkd")


@dataclass
class Run:
    """One of the runs that are compared."""

    label: str
    """Its name in charts: its number."""
    name: str
    """Its name in sentences and lists."""
    directory: Path
    state: runs.State
    config: cfg.Config | None
    """None if another version wrote it and it cannot be read."""
    overrides: list[str]
    """The overrides that it was started with."""
    final: dict[str, Any] = field(default_factory=dict)
    """Its final metrics; latencies as they were last measured."""
    own: list[str] = field(default_factory=list)
    """Those of its overrides that not all compared runs share."""
    points: int = charts.POINTS
    """Points of each of its curves: the more runs are compared, the fewer."""

    @property
    def title(self) -> str:
        """`3: mode=cls compression=qat`, or its name if it has no overrides of its own."""
        return f"{self.label}: {shortened(' '.join(self.own)) or self.name}"

    @property
    def short(self) -> str:
        """`3: cls qat optimizer.lr=0.1`, for a legend: of choices only the values, of keys the last parts."""
        return f"{self.label}: {shortened(' '.join(map(_short, self.own))) or self.name}"

    @property
    def result(self) -> Result | None:
        """`result.json` of a finished run."""
        return self.state.result

    @property
    def finished(self) -> bool:
        """Whether it has final metrics."""
        return bool(self.state.result)

    @property
    def monitored(self) -> float:
        """The value of the monitored metric, by which finished runs are ranked."""
        assert self.result
        return self.result.monitored

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that it may have values of."""
        if self.config:
            return self.config.metrics()
        return metrics_of({}, monitor=self.result.monitor if self.result else "")

    @property
    def metric(self) -> Metric:
        """The metric that was monitored."""
        assert self.result
        return find(monitored_metric(self.result.monitor), self.metrics) or headline(self.final)

    @property
    def decided_by(self) -> str:
        """What `monitored` is a value of, in words."""
        assert self.result
        is_validated = self.result.best is not None
        return self.result.monitor if is_validated else f"test {self.metric.title} (nothing was validated)"

    @property
    def goal(self) -> cfg.Goal:
        """The direction in which the monitored metric is better."""
        return (self.config and self.config.train.goal) or self.metric.goal

    @property
    def score(self) -> float:
        """The value of the monitored metric, negated if lower is better."""
        return -self.monitored if self.goal is cfg.Goal.min else self.monitored

    @property
    def command(self) -> str:
        """The command that trains it again."""
        return terminal.command(*self.of_training)

    @property
    def of_training(self) -> list[str]:
        """Its overrides without those that say how its command, or its sweep, began or continued it."""
        own = of_jobs(self.overrides, sweep.varied_beside(self.directory))
        return [text for text in own if not key_of(text).startswith("sweep/") and text.lstrip("+") not in CONTINUING]

    @property
    def place(self) -> str:
        """Its name for other commands: its directory, or its MLflow id if that is gone."""
        record = {} if self.state.status == "DAMAGED" else journal.tracked(self.directory)
        return str(record["run_id"]) if record.get("rebuilt") else terminal.place(self.directory)

    @functools.cached_property
    def _history(self) -> history.History:
        is_damaged = self.state.status == "DAMAGED"
        return history.History({}, {}) if is_damaged else history.history(self.directory, self.points)

    @property
    def curves(self) -> dict[str, dict[int, float]]:
        """Metric → step → value."""
        return self._history.curves

    @property
    def per_class(self) -> dict[str, Any]:
        """`classes`, and for each network `top1` and `confusion`; empty if the run has not tested.

        Multi-label: `results.per_class`.
        """
        return {} if self.state.status == "DAMAGED" else results.per_class(self.directory / journal.PER_CLASS)

    @property
    def mistakes(self) -> dict[str, Any]:
        """`images`, `wrong` and the `worst` of them; empty if the run has not tested."""
        return {} if self.state.status == "DAMAGED" else results.mistakes(self.directory / journal.MISTAKES)

    @property
    def quantization(self) -> Quantization | None:
        """Quantization of each layer of the exported network; None without any."""
        return None if self.state.status == "DAMAGED" else quantization.read(self.directory / EXPORT)

    @property
    def explained(self) -> explanations.Explanations:
        """Grad-CAM maps of the worst mistakes; without images if there are none."""
        if self.state.status == "DAMAGED":
            return explanations.Explanations("", [])
        return explanations.read(self.directory / journal.EXPLAINED)

    @property
    def varied(self) -> tuple[str, ...]:
        """Its own overrides, by key, without those in which the runs of one configuration may differ."""
        return tuple(sorted((text for text in self.own if key_of(text) not in REPEATS), key=key_of))

    @property
    def dataset(self) -> dict[str, Any]:
        """The journal's event `dataset`; empty if it has none."""
        return self._history.dataset

    @property
    def profile(self) -> dict[str, int]:
        """Number of images in each split, and of classes."""
        return self.dataset.get("profile", {})

    @functools.cached_property
    def about(self) -> About | None:
        """Statistics of its data; None if another version wrote it, or the run failed before."""
        return About.from_json(self.dataset.get("about")) if self.dataset else None

    def error_of(self, accuracy: float, split: str) -> float | None:
        """Standard error of an accuracy on a split, that of a binomial proportion; None if its size is unknown.

        One correct and one wrong image are added (Laplace's rule of succession): 40 of 40 correct is not ± 0.
        """
        count = self.profile.get(split, 0)
        share = (accuracy * count + 1) / (count + 2)
        return math.sqrt(share * (1 - share) / (count + 2)) if count else None


def metrics_in(subjects: Sequence[Run]) -> list[Metric]:
    """The metrics of which some finished run has a final value."""
    metrics = {metric.name: metric for run in subjects for metric in run.metrics}
    return present((name for run in subjects for name in run.final), metrics.values())


def compared_by(subjects: Sequence[Run]) -> Metric:
    """The metric to compare with costs: the one that all finished runs monitored and tested, else the headline."""
    usual = headline_in(subjects)
    finished = [run for run in subjects if run.finished]
    metrics = {run.metric.name: run.metric for run in finished}
    shared = next(iter(metrics.values()), usual)
    # A class without test images has no number.
    tested = all(math.isfinite(run.final.get(shared.name, math.nan)) for run in finished)
    return shared if len(metrics) == 1 and tested else usual


def headline_in(subjects: Sequence[Run]) -> Metric:
    """The headline of all finished runs: top-1, or mAP if all have multi-label images."""
    shared = [set(run.final) for run in subjects if run.finished]
    return headline(set.intersection(*shared) if shared else [])


def read(directory: Path, label: str, name: str) -> Run:
    """The run of a directory; its status is DAMAGED, with the reason, if a file that a report needs is unusable."""
    run = Run(label, name, directory, runs.state(directory), None, [])
    try:
        files.refuse_links(directory)
        run.overrides = runs.overrides(directory)
        journal.tracked(directory), run.per_class, run.mistakes, run.quantization, run.explained
        run.config = runs.config_of(directory)
    except (Damaged, ForeignPath) as error:
        run.state = runs.damaged(error, run.state.step)
    if run.state.result:
        run.final = dict(run.state.result.final)
    return run


def jobs(directory: Path) -> list[Run]:
    """The runs of a sweep, including those that could not be started."""
    subjects, refusals = [], sweep.refusals(directory)
    for job in sweep.jobs(directory):
        run = read(job, job.name.partition("_")[0], job.name.replace("_", " ", 1))
        if refusal := refusals.get(job.name):
            run.state = runs.State("FAILED", refusal.reason, refusal.exit_code, run.state.step, None)
        subjects.append(run)
    return labelled(subjects)


def title_of(directory: Path) -> str:
    """The title of a sweep's report."""
    return f"Sweep {os.path.relpath(directory)}"


def labelled(subjects: Sequence[Run]) -> list[Run]:
    """Runs to compare, with the overrides in which each differs from the others."""
    overrides = [[text for text in run.of_training if key_of(text) != "name"] for run in subjects]
    shared = set.intersection(*map(set, overrides)) if len(subjects) > 1 else set()
    for run, own in zip(subjects, overrides, strict=True):
        run.own = [text for text in own if text not in shared]
        run.points = max(FEWEST, min(charts.POINTS, ALTOGETHER // len(subjects)))
    return list(subjects)


def measure(subjects: Sequence[Run]) -> str:
    """Measure the latencies of all finished runs in turns. Returns the engine; empty if that was not possible."""
    latencies, engine = costs.measured({run.name: run.directory for run in subjects if run.finished})
    for run in subjects:
        run.final |= latencies.get(run.name, {})
    return engine


def _short(override: str) -> str:
    """A choice that says of what group it is, or the last two parts of a key with its value."""
    key, is_value, value = override.partition("=")
    if "." in key and is_value:
        return f"{'.'.join(key.split('.')[-2:])}={value}"
    return value if is_value and value not in COMMON else override


def shortened(text: str) -> str:
    """A text with its long decimals rounded to four digits."""
    return re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda match: f"{float(match[0]):.4g}", text)
