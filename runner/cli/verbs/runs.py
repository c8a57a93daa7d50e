"""The runs below a folder."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ... import config as cfg
from ... import runs
from ...config.monitor import metrics_of
from ...errors import CheckpointError, Damaged
from ...files import to_json
from ...metrics import HEADLINE, MANY
from ...metrics.names import headline, present
from ...report.costs import LATENCY, SIZE
from ...terminal import screen, styled

COLORS = {
    "FINISHED": "green",
    "RUNNING": "cyan",
    "KILLED": "yellow",
    "FAILED": "red",
    "LOST": "red",
    "DAMAGED": "red",
    "STOPPED_EARLY": "yellow",
}


def main(arguments: list[str]) -> int:
    """`runs [FOLDER] [--json]`."""
    parser = argparse.ArgumentParser(prog="runner runs", description="List the runs below a folder, the oldest first.")
    parser.add_argument("folder", nargs="?", default="outputs", help="where they are (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_args(arguments)
    if not Path(options.folder).is_dir():
        raise CheckpointError(f"{options.folder} is not a folder. Train a run, or name another: runner runs DIR")
    rows = [describe(directory) for directory in runs.find(Path(options.folder))]
    if options.json:
        for row in rows:
            print(to_json(row))
        return 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = ("steps", HEADLINE.title, "MB", "ms/image")
    for heading in ("started", "status", "mode", "compression", "model", "data", *numbers, "run"):
        table.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        color = COLORS[row["status"]]
        metric = headline(row)
        value = row[metric.name]
        # The column shows top-1; other metrics are labelled.
        number = "" if value is None else f"{value:.4f}" + (f" {metric.title}" if metric is MANY[0] else "")
        started = f"{datetime.fromtimestamp(row['started']):%m-%d %H:%M}"
        status = styled(row["status"], color)
        names = (row[name] or "" for name in ("mode", "compression", "model", "data"))
        costs = (column.text(row) for column in (SIZE, LATENCY))
        table.add_row(started, status, *names, str(row["step"]), number, *costs, row["run"])
    console = screen()
    console.print(table)
    for row in rows:
        if row["reason"]:
            console.print(f"{row['run']}: {row['reason'].splitlines()[0]}", soft_wrap=True)
    return 0


def describe(directory: Path) -> dict[str, Any]:
    """A run's entry in the list."""
    state, run_id, config = runs.state(directory), None, dict[str, Any]()
    try:
        run_id = runs.mlflow_id(directory)
        config = runs.groups_of(directory, "mode", "compression", "model", "data", "train", "deploy")
    except Damaged as error:
        # Only the first damaged file is named.
        state = state if state.status == "DAMAGED" else runs.damaged(error, state.step)
    final = state.result.final if state.result else {}
    row: dict[str, Any] = {
        "run": os.path.relpath(directory), "started": runs.began(directory), "status": state.status,
        "reason": state.reason, "run_id": run_id, "mode": None, "compression": None, "model": None,
        "data": None, "step": state.step,
        **{name: final.get(name) for name in (headline(final).name, SIZE.name, LATENCY.name)},
    }  # fmt: skip
    train = config["train"] if config else None
    metrics = metrics_of(train.metrics, config["data"].many, train.monitor) if train else metrics_of({})
    row |= {metric.name: final[metric.name] for metric in present(final, metrics)}
    if config:
        row |= {
            "mode": config["mode"].kind,
            "compression": config["compression"].kind,
            "model": cfg.model_name(cfg.architecture(config["model"], config["mode"], config["deploy"].network)),
            "data": config["data"].kind,
        }
    return row
