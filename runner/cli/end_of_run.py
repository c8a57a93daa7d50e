"""Prints the end of a run."""

from __future__ import annotations

import math
import os
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from .. import config as cfg
from .. import runs, terminal
from ..config.monitor import metrics_of
from ..config.rules import network_names
from ..metrics import MANY
from ..metrics.names import find, headline, monitored_metric, present
from ..runs.result import Result
from ..terminal import duration, screen
from ..tracking import stores
from .open_run import TRUST, targets_of


def brief(result: Result, prefix: str) -> None:
    """Print one line, which begins with the prefix."""
    final, text = result.final, Text(f"{prefix}test")
    for name in dict.fromkeys((headline(final).name, monitored_metric(result.monitor))):
        if name in final:
            metric = find(name, metrics_of({}, headline(final) is MANY[0], result.monitor))
            text.append(f" {metric.title if metric else name} ").append(f"{final[name]:.4f}", "bold")
    screen().print(text.append(f" in {duration(result.seconds)}"), soft_wrap=True)


def show(config: cfg.Config, directory: Path, result: Result) -> None:
    """Print the result table, the run directory and how to compare."""
    console = screen()
    final, progress = result.final, result.final_progress
    deployed = config.deploy.network
    model = cfg.model_name(cfg.model_of(config, deployed))
    rows: dict[str, str | Text] = {
        "mode": config.mode.kind,
        "compression": config.compression.kind,
        "model": f"{model}, {final['params'] / 1e6:.2f} M parameters",
    }
    if result.best is not None:
        rows[f"best {result.monitor}"] = (
            "never a number" if math.isnan(result.best) else f"{result.best:.4f} at step {progress.best_step}"
        )
    for metric in present(final, config.metrics()):
        images = f" of {terminal.counted(result.test_images, 'image')}" if metric.is_proportion else ""
        rows[f"test {metric.title}"] = Text.assemble((f"{final[metric.name]:.4f}", "bold"), images)
    first = headline(final)
    for name in network_names(config.mode):
        if name != deployed and f"{name}/{first.name}" in result.test:
            rows[f"test {first.title} of {name}"] = f"{result.test[f'{name}/{first.name}']:.4f}"
    steps, epochs = terminal.counted(progress.step, "step"), terminal.counted(result.epochs, "epoch")
    rows["training"] = (
        f"{steps}, {epochs} in {duration(result.seconds)}"
        if progress.step
        else f"none, {duration(result.seconds)} in all"
    )
    if result.exported:
        latency = f", {final['latency_ms_p50']:.2f} ms an image" if "latency_ms_p50" in final else ""
        differs = final.get("exported_top1", final.get("top1")) != final.get("top1")
        own = f", test top-1 {final['exported_top1']:.4f}" if differs else ""
        rows["recommended here"] = f"{result.exported}{own}, {final['size_mb']:.2f} MB{latency}"
    if "int8_top1" in final:
        rows["int8 file"] = f"test top-1 {final['int8_top1']:.4f}, agreement {final['int8_agreement']:.2%}"
    if "int8_hamming_loss" in final:
        loss, agreement = final["int8_hamming_loss"], final["int8_agreement"]
        rows["int8 file"] = f"test Hamming loss {loss:.4f}, agreement {agreement:.2%}"
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
    place = terminal.place(directory)
    console.print(f"Look     {terminal.command('report', place)}", soft_wrap=True)
    if config.data.channels in (1, 3):
        trust = [TRUST] if targets_of(config) else []
        console.print(f"Use      {terminal.command('predict', place, 'PICTURE…', *trust)}", soft_wrap=True)
    for name, settings in config.tracking.also.items():
        console.print(f"{name:8} {stores.shown(settings.address, os.path.relpath(directory))}", soft_wrap=True)
