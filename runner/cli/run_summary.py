"""The end of a run as a person reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .. import config as cfg
from .. import runs, terminal
from ..terminal import duration, screen
from ..tracking import stores


def brief(result: dict[str, Any], prefix: str) -> None:
    """Print one line, which begins with the prefix."""
    top1, spent = result["final"]["top1"], duration(result["seconds"])
    screen().print(Text.assemble(f"{prefix}test top-1 ", (f"{top1:.4f}", "bold"), f" in {spent}"), soft_wrap=True)


def show(config: cfg.Config, directory: Path, result: dict[str, Any]) -> None:
    """Print the result table, the run directory and how to compare."""
    console = screen()
    final, progress = result["final"], result["progress"]
    rows: dict[str, str | Text] = {
        "mode": config.mode.kind,
        "compression": config.compression.kind,
        "model": f"{cfg.model_name(config.model)}, {final['params'] / 1e6:.2f} M parameters",
    }
    if result["best"] is not None:
        rows[f"best {result['monitor']}"] = f"{result['best']:.4f} at step {progress['best_step']}"
    for name in (name for name in final if name.startswith("top")):
        rows[f"test top-{name[3:]}"] = Text.assemble(
            (f"{final[name]:.4f}", "bold"), f" of {result['test_images']} images"
        )
    if "student1/top1" in result["test"]:
        rows["test top-1 of student1"] = f"{result['test']['student1/top1']:.4f}"
    rows["training"] = f"{progress['step']} steps, {result['epochs']} epochs in {duration(result['seconds'])}"
    if result.get("exported"):
        latency = f", {final['latency_ms_p50']:.2f} ms an image" if "latency_ms_p50" in final else ""
        rows["recommended here"] = f"{result['exported']}, {final['size_mb']:.2f} MB{latency}"
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"Run      {os.path.relpath(directory)}", soft_wrap=True)
    if isinstance(config.tracking, cfg.Mlflow):
        if run_id := runs.mlflow_id(directory):
            console.print(f"MLflow   {run_id}", soft_wrap=True)
        uri = config.tracking.uri
        serve = terminal.command("ui", *([] if uri == cfg.Mlflow.uri else [uri]))
        console.print(f"Compare  {serve}", soft_wrap=True)
    for name, settings in config.tracking.also.items():
        console.print(f"{name:8} {stores.shown(settings.address, os.path.relpath(directory))}", soft_wrap=True)
