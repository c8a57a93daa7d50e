"""The end of a sweep as a person reads it: its jobs side by side, and where MLflow compares them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from . import config as cfg
from . import report, runs, sweep
from .config import store
from .journal import CONFIG, LOG, tracked
from .progress import duration, screen
from .tracking import server

#: Accuracy, latency and size of the jobs, in the sweep's folder.
PLOT = "accuracy_latency.png"


def show(directory: Path) -> int:
    """Print the table of a sweep and where MLflow compares its runs. The exit code of the first job that failed.

    A sweep without a job leaves no folder.
    """
    if not sweep.jobs(directory):
        shutil.rmtree(directory)
        return 0
    outcomes = _outcomes(directory)
    finished = [(job, state.result) for job, state in outcomes if state.result]
    done = [(job.name, job, result["final"]) for job, result in finished]
    failed = [(job, state) for job, state in outcomes if not state.result]
    finals, engine = report.measured(done)
    console = screen()
    console.print(f"\nSweep {os.path.relpath(directory)}", soft_wrap=True)
    console.print(_table(outcomes, finals))
    if engine:
        console.print(f"ms/image: median at batch 1, {engine}", soft_wrap=True)
    if len(points := report.points(finals)) > 1:
        report.plot(points, directory / PLOT)
        console.print(f"Plot     {os.path.relpath(directory / PLOT)}", soft_wrap=True)
    for job, state in failed:
        console.print(f"{job.name}: {state.reason}", soft_wrap=True, markup=False)
        if (job / LOG).is_file():
            console.print(f"  log: {os.path.relpath(job / LOG)}", soft_wrap=True, markup=False)
    for line in best(finished, finals):
        console.print(line, soft_wrap=True, markup=False)
    if failed:
        console.print("The same command with sweep.resume=true does what is missing; another one is a new sweep.")
    for line in comparison(directory):
        console.print(line, soft_wrap=True, markup=False)
    return failed[0][1].exit_code if failed else 0


def _outcomes(directory: Path) -> list[tuple[Path, runs.State]]:
    """Every job and where it stands."""
    found, refusals = [], sweep.refusals(directory)
    for job in sweep.jobs(directory):
        state = runs.state(job)
        if said := refusals.get(job.name):
            state = runs.State("FAILED", said["reason"], said["exit_code"], state.step, None)
        found.append((job, state))
    return found


def _table(outcomes: list[tuple[Path, runs.State]], finals: Mapping[str, dict[str, Any]]) -> Table:
    """A row a job; `finals` are the final numbers of those that finished, by name."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    costs = [column.heading for column in report.COSTS]
    for heading in ("job", "status", "test top-1", "best validation", "file", *costs, "time"):
        left = heading in ("job", "status", "file")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for job, state in outcomes:
        name, result = shortened(job.name.replace("_", " ", 1)), state.result
        if result is None:
            table.add_row(name, f"[red]{state.status}[/red]")
            continue
        final = finals[job.name]
        best = "" if result["best"] is None else f"{result['best']:.4f}"
        table.add_row(
            name, state.status, f"[bold]{final['top1']:.4f}[/bold]", best, result.get("exported") or "",
            *(column.text(final) for column in report.COSTS), duration(result["seconds"]),
        )  # fmt: skip
    return table


def shortened(text: str) -> str:
    """A text with its long fractions to four digits."""
    return re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", text)


def best(finished: list[tuple[Path, dict[str, Any]]], finals: Mapping[str, dict[str, Any]]) -> list[str]:
    """Which of several finished jobs is the best, or, where a search had costs to lower, which none of them beats."""
    if len(finished) < 2:
        return []
    configs = [store.read(job / CONFIG) for job, _ in finished]
    sign = -1 if configs[0].train.goal is cfg.Goal.min else 1
    scores = {job: sign * runs.monitored(result) for job, result in finished}
    if (searched := configs[0].sweep.optuna) and searched.minimize:
        names = [cost.name for cost in searched.minimize]
        found = report.front({job: [scores[job], *(-finals[job.name][name] for name in names)] for job in scores})
        numbers = ", ".join(job.name.partition("_")[0] for job in found)
        return [f"Pareto   none is better in {finished[0][1]['monitor']} and {', '.join(names)} at once: {numbers}"]
    job, result = max(finished, key=lambda one: scores[one[0]])
    said = [text for text in runs.overrides(job) if not text.lstrip("+~").startswith((*sweep.OWN, "sweep/"))]
    value = f"{result['monitor']} {runs.monitored(result):.4f}"
    return [f"Best     {job.name.partition('_')[0]}, {value}: python -m runner {shlex.join(said)}"]


def comparison(directory: Path) -> list[str]:
    """How to see a sweep's runs side by side in MLflow; nothing where they are not tracked."""
    sent = [known for known in map(tracked, sweep.jobs(directory)) if "run_id" in known]
    if not sent:
        return []
    uri = sent[0]["uri"]
    experiments = sorted({known["experiment_id"] for known in sent})
    url = server.comparison_url(uri, [known["run_id"] for known in sent], experiments)
    if uri.startswith("http"):
        return [f"Compare  {url}"]
    return [f"Serve    python -m runner ui{'' if uri == cfg.Mlflow.uri else f' {uri}'}", f"Compare  {url}"]
