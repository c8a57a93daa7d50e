"""What MLflow is told of a whole sweep: counts, configurations, the best of them, fronts, the verdict, a table."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import config as cfg
from .. import terminal
from ..runs import sweep
from ..runs.early_stopping import STOPPED_EARLY
from ..runs.swept import REPEATS, key_of, of_jobs
from . import costs, page, repeats, subject, verdict
from .repeats import Configuration
from .subject import Run
from .verdict import Verdict

#: Prefix of the metrics; names in it are at most this long, which leaves room within MLflow's 250 characters.
PREFIX, LONGEST_NAME = "sweep", 200
#: Most characters of a tag, and the tag that MLflow shows as the description of a run.
LONGEST_TAG, NOTE = 5000, "mlflow.note.content"
#: Tags of the verdict.
VERDICT = ("sweep.monitored", "sweep.best", "sweep.best_run", "sweep.verdict", "sweep.front")
#: Most rows of the description's table.
LISTED = 20

Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Summary:
    """The contents of a sweep's own run in MLflow."""

    end: tuple[str, str, int]
    """Status, reason, exit code."""
    tags: dict[str, str]
    metrics: dict[str, float]
    table: str
    """CSV: a row a configuration or, without repeated runs, a row a run."""


def of(jobs: Sequence[Run], swept: sweep.Sweep, directory: Path) -> Summary:
    """The summary of a sweep whose jobs have ended."""
    decided = verdict.of(jobs)
    failed = [run for run in jobs if not run.finished and run.state.status != STOPPED_EARLY]
    fronts = _fronts(jobs) if decided else {}
    configurations = decided.configurations if decided else []
    rows = list(map(_of_configuration, configurations)) or [_of_run(run, fronts) for run in _best_first(jobs)]
    tags = {
        "sweep.command": terminal.command("-m", *swept.overrides),
        "sweep.directory": str(directory.resolve()),
        **_verdict(decided, fronts),
        NOTE: _description(decided, rows, fronts, jobs, failed),
    }
    metrics: dict[str, float] = {
        f"{PREFIX}/runs": len(jobs),
        f"{PREFIX}/finished": sum(run.finished for run in jobs),
        f"{PREFIX}/failed": len(failed),
        f"{PREFIX}/stopped_early": sum(run.state.status == STOPPED_EARLY for run in jobs),
    }
    if decided:
        metrics[f"{PREFIX}/best"] = _value(decided)
    for name, row in zip(_names(configurations, swept), rows, strict=False):
        metrics |= {f"{PREFIX}/{name}/{key}": value for key, value in row.items() if isinstance(value, int | float)}
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    return Summary(_end(jobs, failed, directory), {key: text[:LONGEST_TAG] for key, text in tags.items()},
                   finite, _csv(rows))  # fmt: skip


def _value(decided: Verdict) -> float:
    """The monitored metric of the best run or, of repeated runs, the mean of the best configuration."""
    best = decided.configurations[0].runs if decided.configurations else [decided.best]
    return statistics.fmean(run.monitored for run in best)


def _verdict(decided: Verdict | None, fronts: dict[str, list[str]]) -> dict[str, str]:
    """Tags, empty without a verdict: MLflow keeps those of an earlier summary that are not replaced."""
    if decided is None:
        return dict.fromkeys(VERDICT, "")
    best = decided.best
    texts = (
        best.decided_by,
        decided.configurations[0].name if decided.configurations else _own(best),
        best.directory.name,
        " ".join(decided.reasons),
        "; ".join(f"{cost}: {', '.join(labels)}" for cost, labels in fronts.items()),
    )
    return dict(zip(VERDICT, texts, strict=True))


def _end(jobs: Sequence[Run], failed: Sequence[Run], directory: Path) -> tuple[str, str, int]:
    if failed:
        numbers = ", ".join(run.label for run in failed[:LISTED])
        more = f" and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        reason = f"{len(failed)} of {terminal.counted(len(jobs), 'run')} did not finish: {numbers}{more}"
    else:
        reason = "the sweep was stopped" if (directory / sweep.STOP).is_file() else ""
    was_killed = (directory / sweep.STOP).is_file() or any(run.state.status == "KILLED" for run in failed)
    status = "KILLED" if was_killed else "FAILED" if failed else "FINISHED"
    return status, reason, failed[0].state.exit_code if failed else 0


def _fronts(jobs: Sequence[Run]) -> dict[str, list[str]]:
    """Cost → labels of the runs that none beats in it and in the deciding test metric."""
    finished, fronts = [run for run in jobs if run.finished], {}
    for column in (costs.LATENCY, costs.SIZE, costs.MACS):
        points = verdict.pareto_points(finished, column)
        if len(points) > 1:
            fronts[column.heading] = sorted(verdict.front_of(points, finished, column), key=int)
    return fronts


def _best_first(jobs: Sequence[Run]) -> list[Run]:
    """All runs: the best first, those without a number and those that did not finish last."""
    finished = sorted((run for run in jobs if run.finished), key=lambda run: (math.isnan(run.score), -run.score))
    return [*finished, *(run for run in jobs if not run.finished)]


def _own(run: Run) -> str:
    return subject.shortened(" ".join(run.own)) or run.name


def _of_configuration(one: Configuration) -> Row:
    values = [run.monitored for run in one.runs]
    row: Row = {
        "configuration": " ".join(one.own) or one.name,
        "runs": len(values),
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "behind_best": None, "behind_best_low": None, "behind_best_high": None,
        "verdict": one.verdict,
    }  # fmt: skip
    if one.verdict == repeats.BEST:
        # MLflow keeps the numbers of an earlier summary, in which another one was the best.
        row |= dict.fromkeys(("behind_best", "behind_best_low", "behind_best_high"), 0.0)
    elif one.difference:
        config = one.run.config
        sign = 1 if config and config.train.goal is cfg.Goal.min else -1
        low, high = sorted((sign * one.difference.low, sign * one.difference.high))
        row |= {"behind_best": sign * one.difference.mean, "behind_best_low": low, "behind_best_high": high}
    return row


def _of_run(run: Run, fronts: dict[str, list[str]]) -> Row:
    finished = run.result is not None
    test = run.final.get(run.metric.name) if finished else None
    row: Row = {
        "run": run.label, "overrides": " ".join(run.own), "status": run.state.status,
        "monitored": run.monitored if finished else None, "test": test,
    }  # fmt: skip
    row |= {column.name: run.final.get(column.name) for column in costs.COSTS}
    return row | {"front": ", ".join(cost for cost, labels in fronts.items() if run.label in labels)}


def _names(configurations: Sequence[Configuration], swept: sweep.Sweep) -> list[str]:
    """Names of configurations for metrics, as those of the jobs' folders, so that a resumed sweep has the same."""
    names: dict[str, str] = {}
    firsts = [min(one.runs, key=lambda run: int(run.label)) for one in configurations]
    for first in sorted(firsts, key=lambda run: int(run.label)):
        own = [
            text for text in of_jobs(first.overrides, swept.varied)
            if text not in swept.shared and key_of(text) not in REPEATS
        ]  # fmt: skip
        name = "_".join(sweep.PLAIN.sub("-", text).strip("-") for text in own)[:LONGEST_NAME].strip(".") or "all"
        names[first.label] = f"{name}_{first.label}" if name in names.values() else name
    return [names[first.label] for first in firsts]


def _csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    # A spreadsheet takes a text with a sign before it for a formula.
    writer.writerows({key: text.lstrip("+~-=@") if isinstance(text := value, str) else value
                      for key, value in row.items()} for row in rows)  # fmt: skip
    return stream.getvalue()


def _description(
    decided: Verdict | None, rows: Sequence[Row], fronts: dict[str, list[str]], jobs: Sequence[Run],
    failed: Sequence[Run],
) -> str:  # fmt: skip
    """The verdict and the table as Markdown, at most `LONGEST_TAG` characters."""
    template = page.environment().get_template("description.md")
    context = {"decided": decided, "fronts": fronts, "jobs": jobs, "failed": failed}
    for listed in range(min(len(rows), LISTED), -1, -1):
        text = template.render(**context, rows=[_texts(row) for row in rows[:listed]], more=len(rows) - listed)
        if len(text) <= LONGEST_TAG:
            return text
    return text[:LONGEST_TAG]


def _texts(row: Row) -> dict[str, str]:
    return {
        key: "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in row.items()
    }
