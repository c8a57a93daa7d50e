"""The end of a run as a person reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import config as cfg
from .progress import duration


def show(config: cfg.Config, directory: Path, result: dict[str, Any]) -> None:
    """Print the result table, the run directory and how to compare."""
    console = Console(highlight=False)
    final, progress = result["final"], result["progress"]
    table = Table(show_edge=False, pad_edge=False)
    row: dict[str, str] = {
        "mode": config.mode.kind,
        "compression": config.compression.kind,
        "model": cfg.model_name(config.model),
        "params": f"{final['params'] / 1e6:.2f} M",
    }
    if result["best"] is not None:
        row[f"best {result['monitor']}"] = f"{result['best']:.4f} (step {progress['best_step']})"
    row |= {f"test {name}": f"{value:.4f}" for name, value in final.items() if name.startswith("top")}
    row["time"] = duration(result["seconds"])
    for name in row:
        table.add_column(name)
    table.add_row(*row.values())
    console.print()
    console.print(table)
    console.print(f"\nRun      {os.path.relpath(directory)}", soft_wrap=True)
    if isinstance(config.tracking, cfg.Mlflow):
        uri = config.tracking.uri
        console.print(f"Compare  python -m runner ui{'' if uri == cfg.Mlflow.uri else f' {uri}'}", soft_wrap=True)
