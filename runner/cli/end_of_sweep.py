"""Prints the end of a sweep: its jobs side by side, a page, and where MLflow compares them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from .. import config as cfg
from .. import terminal
from ..report import costs, importance, page, picture, ranking, repeats, subject
from ..report.repeats import Configuration
from ..report.subject import Run, shortened
from ..runs import study as studies
from ..runs import sweep
from ..runs.early_stopping import STOPPED_EARLY
from ..runs.journal import LOG
from ..terminal import duration, screen, styled
from ..tracking import stores, urls


def show(directory: Path) -> int:
    """Print the table of a sweep and where it is compared. The exit code of the first job that failed."""
    if not sweep.jobs(directory):
        return 0
    jobs = subject.jobs(directory)
    unfinished = [run for run in jobs if not run.finished]
    failed = [run for run in unfinished if run.state.status != STOPPED_EARLY]
    console, engine = screen(), ""
    with errors_as_warnings(console, "not measured side by side"):
        engine = subject.measure(jobs)
    console.print(f"\nSweep {os.path.relpath(directory)}", soft_wrap=True)
    console.print(_table(jobs))
    with errors_as_warnings(console, "no table of configurations"):
        if configurations := repeats.of(jobs):
            console.print(_of_configurations(configurations, jobs))
    if engine:
        console.print(f"ms/image: median at batch 1, {engine}", soft_wrap=True)
    with errors_as_warnings(console, "no plot"):
        if picture.draw(jobs, directory / sweep.PLOT):
            console.print(f"Plot     {os.path.relpath(directory / sweep.PLOT)}", soft_wrap=True)
    for run in unfinished:
        console.print(f"{run.directory.name}: {run.state.reason}", soft_wrap=True)
        if run in failed and (run.directory / LOG).is_file():
            console.print(f"  log: {os.path.relpath(run.directory / LOG)}", soft_wrap=True)
    with errors_as_warnings(console, "no best run"):
        for line in best(jobs):
            console.print(line, soft_wrap=True)
    with errors_as_warnings(console, "no importance of the searched keys"):
        if importances := importance.of(jobs):
            shares = ", ".join(f"{one.key} {one.text}" for one in importances.keys[:4])
            console.print(
                f"Matters  {shares}: shares of the variance in {terminal.counted(importances.trials, 'trial')}, "
                f"{importances.chance:.2f} by chance",
                soft_wrap=True,
            )
    if hint := _continuation(directory, bool(failed)):
        console.print(hint)
    command = terminal.command("report", terminal.place(directory))
    with errors_as_warnings(console, f"no report; {command} makes it"):
        [report, _] = page.write(jobs, subject.title_of(directory), command, engine, directory / sweep.REPORT)
        console.print(f"Report   {os.path.relpath(report)}", soft_wrap=True)
    with errors_as_warnings(console, "Compare  not in MLflow"):
        for line in comparison(directory):
            console.print(line, soft_wrap=True)
    return failed[0].state.exit_code if failed else 0


def _continuation(directory: Path, has_failed: bool) -> str:
    """How the sweep continues; empty if it is complete."""
    study = studies.load(directory)
    minutes = studies.used_up(study) if study else None
    texts = []
    if study and minutes is not None and not studies.is_complete(study):
        texts.append(
            f"sweep.max_minutes={minutes:g} is used up. Repeat the command with a larger one and sweep.resume=true to "
            "continue the search."
        )
    if has_failed:
        larger = f", and a larger sweep.max_minutes than {minutes:g}," if minutes is not None else ""
        texts.append(
            f"Repeat the command with sweep.resume=true{larger} to run what is missing; without it a new sweep begins."
        )
    return "\n".join(texts)


@contextlib.contextmanager
def errors_as_warnings(console: Console, what: str) -> Iterator[None]:
    """Turn an error within the context into a line: a failed plot must not fail the sweep."""
    try:
        yield
    except Exception as error:
        console.print(f"{what}: {type(error).__name__}: {error}", soft_wrap=True)


def _table(jobs: Sequence[Run]) -> Table:
    """One row per job."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = costs.columns(run.final for run in jobs)
    headings = [column.heading for column in columns]
    monitored = {run.metric.name for run in jobs if run.finished}
    first = subject.headline_in(jobs)
    metrics = [metric for metric in subject.metrics_in(jobs) if metric.name in {first.name, *monitored}]
    tested = [f"test {metric.title}" for metric in metrics or [first]]
    for heading in ("job", "status", *tested, "best validation", "file", *headings, "time"):
        left = heading in ("job", "status", "file")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for run in jobs:
        name, result = shortened(run.name), run.result
        if result is None:
            table.add_row(name, styled(run.state.status, "yellow" if run.state.status == STOPPED_EARLY else "red"))
            continue
        best = "" if result.best is None else f"{result.best:.4f}"
        values = [run.final.get(metric.name) for metric in metrics]
        table.add_row(
            name, run.state.status, *("" if value is None else styled(f"{value:.4f}", "bold") for value in values),
            best, result.exported or "", *(column.text(run.final) for column in columns),
            duration(result.seconds),
        )  # fmt: skip
    return table


def _of_configurations(configurations: Sequence[Configuration], jobs: Sequence[Run]) -> Table:
    """One row per configuration that was run with several seeds or folds."""
    table, first = Table(box=box.SIMPLE_HEAD, pad_edge=False), subject.headline_in(jobs)
    for heading in ("configuration", "runs", "best validation", f"test {first.title}", "behind the best", "difference"):
        table.add_column(heading, justify="left" if heading in ("configuration", "difference") else "right")
    for one in configurations:
        verdict_of = styled(one.verdict, "bold" if one.verdict == repeats.BEST else "")
        table.add_row(one.name, str(len(one.runs)), one.text(), one.text(first.name), one.interval, verdict_of)
    return table


def best(jobs: Sequence[Run]) -> list[str]:
    """The best of several finished jobs, or, if a search minimized costs, the Pareto-optimal ones; or why none is."""
    ranks = ranking.of(jobs)
    order = ranks.ranked
    if ranks.obstacle:
        return [f"Best     {ranks.obstacle}"]
    if len(ranks.order) < 2:
        return []
    first = order[0]
    assert first.result
    searched = first.config.sweep.optuna if first.config else None
    if searched and searched.minimize:
        return _pareto(order, first.result.monitor, [cost.name for cost in searched.minimize])
    if configurations := repeats.of(jobs):
        chosen = configurations[0].run
        means = [f"Means    {sentence}" for sentence in repeats.sentences(configurations)]
        return [*means, f"Best     {chosen.label}, of the best configuration: {chosen.command}"]
    return [f"Best     {first.label}, {first.result.monitor} {first.monitored:.4f}: {first.command}"]


def _pareto(order: Sequence[Run], monitor: str, names: Sequence[str]) -> list[str]:
    """Which runs are the Pareto-optimal ones in the monitored metric and these costs, and which lack a cost."""
    complete = [run for run in order if all(name in run.final for name in names)]
    without = ", ".join(sorted((run.label for run in order if run not in complete), key=int))
    lines = [f"Pareto   without {' or '.join(names)}, and left out: {without}"] if without else []
    if complete:
        noise = {column.name: column.noise_in(run.final for run in complete) for column in costs.COSTS}
        points = {run.label: [run.score, *(-run.final[name] for name in names)] for run in complete}
        front = ", ".join(sorted(costs.front(points, [0, *(noise[name] for name in names)]), key=int))
        lines.insert(0, f"Pareto   none is better in {monitor} and {', '.join(names)} at once: {front}")
    return lines


def comparison(directory: Path) -> list[str]:
    """How to compare a sweep's runs in MLflow; empty if they are not tracked."""
    lines = [f"{name:8} {url}" for name, url in urls.of_sweep(directory).items()]
    uris = {record["uri"] for record in urls.tracked_jobs(directory)[0] if "uri" in record}
    return [*(f"Serve    {serve(uri)}" for uri in sorted(uris) if lines and not uri.startswith("http")), *lines]


def serve(uri: str) -> str:
    """The command that serves an embedded store."""
    return terminal.command("ui", *([] if stores.resolved(uri) == stores.resolved(cfg.Mlflow.uri) else [uri]))
