"""A page that compares runs."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import terminal
from ...config.keys import expanded
from ...errors import CheckpointError, ConfigError, Damaged
from ...report import page, subject
from ...runs import RUN_ID, find, journal, summary, sweep
from ...terminal import screen
from .arguments import add_uri, make_folder, page_path


def main(arguments: list[str]) -> int:
    """`report RUN… | SWEEP | --experiment NAME [--uri URI] [--output FILE]`."""
    parser = argparse.ArgumentParser(
        prog="runner report",
        description="Compare runs in a page that works offline, and in a Markdown file next to it.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run directories, folders of runs, MLflow run ids")
    parser.add_argument("--experiment", metavar="NAME", help="all runs of an MLflow experiment")
    add_uri(parser)
    parser.add_argument(
        "--output",
        type=lambda path: Path(expanded(path)),
        metavar="FILE",
        help="the page; of one run or sweep by default in its folder",
    )
    options = parser.parse_args(arguments)
    if bool(options.runs) == bool(options.experiment):
        raise ConfigError("Name runs, a folder of them, or an experiment: runner report RUN… | --experiment NAME")
    output = page_path(options.output or _default(options.runs))
    page.targets(output)
    runs, title = _found(options)
    engine = subject.measure(runs)
    command = terminal.command("report", *arguments)
    make_folder(output)
    for path in page.write(runs, title, command, engine, output):
        screen().print(f"Report   {os.path.relpath(path)}", soft_wrap=True)
    return 0


def _default(named: list[str]) -> Path:
    """The default path: in the folder of one run or sweep; none for several or those fetched from MLflow."""
    has_folder = len(named) == 1 and any((Path(named[0]) / name).is_file() for name in (journal.SWEEP, journal.JOURNAL))
    return Path(named[0] if has_folder else "") / sweep.REPORT


def _found(options: argparse.Namespace) -> tuple[list[subject.Run], str]:
    """The runs that the arguments name, and the report's subject. Errors: CheckpointError, ServerLost."""
    if options.experiment:
        from ...tracking import rebuilt

        title = f"Experiment {options.experiment}"
        directories = rebuilt.experiment(options.uri, options.experiment)
        if not directories:
            raise CheckpointError(f"The experiment {options.experiment} has no run yet.")
    elif len(options.runs) == 1 and (Path(options.runs[0]) / journal.SWEEP).is_file():
        _refuse_none(jobs := subject.jobs(Path(options.runs[0])))
        return jobs, subject.title_of(Path(options.runs[0]))
    else:
        _refuse_none(directories := [path for named in options.runs for path in _directories(named, options.uri)])
        title = "Comparison of runs" if len(directories) > 1 else f"Run {_name(directories[0])}"
    read = [subject.read(path, str(number), _name(path)) for number, path in enumerate(directories, start=1)]
    return subject.labelled(read), title


def _refuse_none(found: Sequence[Any]) -> None:
    """Errors: CheckpointError if no runs were found."""
    if not found:
        raise CheckpointError("There is no run to report on: no job of the sweep has begun.")


def _directories(named: str, uri: str) -> list[Path]:
    path = Path(named)
    summary.refuse(path)
    if (path / journal.SWEEP).is_file():
        return sweep.jobs(path)
    if not path.exists() and RUN_ID.fullmatch(named):
        from ...tracking import rebuilt

        return [rebuilt.run(uri, named)]
    if any(os.path.lexists(path / name) for name in (journal.CONFIG, journal.JOURNAL)):
        return [path]
    if path.is_dir() and (found := [*find(path)]):
        return found
    raise CheckpointError(
        f"There is no run {named}: it is not a run directory, a folder of runs or an MLflow run id. "
        "`python -m runner runs` lists the runs of this folder."
    )


def _name(directory: Path) -> str:
    with contextlib.suppress(Damaged):
        return str(journal.tracked(directory).get("rebuilt") or os.path.relpath(directory))
    return os.path.relpath(directory)
