"""Many runs as one command: where they are, which of them are done, how they compare."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.table import Table

from . import config as cfg
from . import files, report, runs
from .errors import ConfigError, UserError
from .journal import CONFIG, LOG, OVERRIDES, SWEEP, Journal, tracked
from .progress import duration, screen
from .tracking import server

#: Accuracy, latency and size of the jobs, in the sweep's folder.
PLOT = "accuracy_latency.png"
#: Overrides that say how a sweep is run, not what it is.
OWN = ("sweep.", "hydra.", "hydra/", "launch.")


@dataclass
class Sweep:
    """What `sweep.json` in a sweep's folder holds."""

    id: str
    """The tag `sweep_id` of its runs."""
    overrides: list[str]
    """What it was started with."""
    shared: list[str]
    """Those of them that all jobs have."""


def digest(overrides: list[str]) -> str:
    """Eight hexadecimal digits for what a sweep varies; the same command finds its folder again by them."""
    said = [text for text in overrides if not text.lstrip("+~").startswith(OWN)]
    return hashlib.blake2b("\n".join(said).encode(), digest_size=4).hexdigest()


def open_(directory: Path, overrides: list[str], shared: list[str], resume: bool) -> None:
    """Make a sweep's folder, or find it again. Errors: ConfigError where it is not to be resumed."""
    if (directory / SWEEP).exists():
        if not resume:
            raise ConfigError(
                f"This sweep was started before, in {directory}. Continue it: sweep.resume=true. For a new one choose "
                "another name (name=NAME) or folder (hydra.sweep.dir=DIR)."
            )
        if digest(read(directory).overrides) != digest(overrides):
            raise ConfigError(
                f"{directory} holds another sweep, started with: {' '.join(read(directory).overrides)}\n"
                "Repeat those, or choose another folder: hydra.sweep.dir=DIR"
            )
        return
    directory.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(f"{digest(overrides)}-{secrets.token_hex(3)}", overrides, shared)
    files.write_json(directory / SWEEP, asdict(sweep))


def read(directory: Path) -> Sweep:
    """The sweep of a folder."""
    return Sweep(**json.loads((directory / SWEEP).read_text(encoding="utf-8")))


def folder_name(directory: str, number: int, overrides: Iterable[str]) -> str:
    """Name of a job's folder: its number and the overrides that it does not share with the others."""
    path = Path(directory) / SWEEP
    shared = read(Path(directory)).shared if path.is_file() else []
    own = ",".join(text for text in overrides if text not in shared and not text.lstrip("+~").startswith(OWN))
    return f"{number}_{own.replace(os.sep, '-')}"[:120].rstrip(" ._,")


def note_refusal(directory: Path, overrides: list[str], error: UserError) -> None:
    """Leave the reason of a job that could not be started in its folder, unless it holds a run already."""
    if (directory / CONFIG).exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    files.write_text(directory / OVERRIDES, yaml.safe_dump(overrides))
    journal = Journal(directory)
    journal.append("started", command=overrides)
    journal.append("ended", status="FAILED", reason=str(error), exit_code=error.exit_code)


def jobs(directory: Path) -> list[Path]:
    """The directories of a sweep's jobs in their order."""
    found = [path for path in directory.iterdir() if path.is_dir() and path.name.partition("_")[0].isdigit()]
    return sorted(found, key=lambda path: int(path.name.partition("_")[0]))


def show(directory: Path, refused: Mapping[Path, UserError]) -> int:
    """Print the table of a sweep and where MLflow compares its runs. The exit code of the first job that failed.

    `refused` are jobs that were not even started. A sweep without a job leaves no folder.
    """
    if not jobs(directory):
        shutil.rmtree(directory)
        return 0
    outcomes = _outcomes(directory, refused)
    done = [(job.name, job, state.result["final"]) for job, state in outcomes if state.result]
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
    if failed:
        console.print("The same command with sweep.resume=true does what is missing; another one is a new sweep.")
    for line in comparison(directory):
        console.print(line, soft_wrap=True, markup=False)
    return failed[0][1].exit_code if failed else 0


def _outcomes(directory: Path, refused: Mapping[Path, UserError]) -> list[tuple[Path, runs.State]]:
    """Every job and where it stands."""
    found = []
    for job in jobs(directory):
        state = runs.state(job)
        if error := refused.get(job.resolve()):
            state = runs.State("FAILED", str(error), error.exit_code, state.step, None)
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
        name, result = job.name.replace("_", " ", 1), state.result
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


def comparison(directory: Path) -> list[str]:
    """How to see a sweep's runs side by side in MLflow; nothing where they are not tracked."""
    sent = [known for known in map(tracked, jobs(directory)) if "run_id" in known]
    if not sent:
        return []
    uri = sent[0]["uri"]
    experiments = sorted({known["experiment_id"] for known in sent})
    url = server.comparison_url(uri, [known["run_id"] for known in sent], experiments)
    if uri.startswith("http"):
        return [f"Compare  {url}"]
    return [f"Serve    python -m runner ui{'' if uri == cfg.Mlflow.uri else f' {uri}'}", f"Compare  {url}"]
