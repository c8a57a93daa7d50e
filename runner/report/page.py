"""A comparison of runs as an offline HTML page, and as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from .. import __version__, files, terminal
from .. import config as cfg
from ..data import about
from ..metrics import COUNTED, HEADLINE, MANY, METRICS, Metric
from ..terminal import duration, printable
from . import charts, costs, importance, per_class, ranking, subject, verdict
from .subject import Run, shortened

#: Marks near the beginning of the page and of its Markdown.
MARKS = '<meta name="generator" content="runner', "<!-- report of runner"
#: Most classes whose confusion matrix is next to the list, and most classes that are all listed.
BESIDE, LISTED = 10, 30
#: Most layers that are listed by their quantization noise.
NOISY = 12


def write(runs: Sequence[Run], title: str, command: str, engine: str, path: Path) -> list[Path]:
    """Write a comparison to `path`, an HTML file, and as Markdown next to it; `command` recreates it.

    `engine`: what measured all latencies in turns; empty if they are the runs' own.
    """
    context = _context(runs, title, command, engine)
    written = []
    for template, target in zip(("page.html", "page.md"), targets(path), strict=True):
        files.write_text(target, environment().get_template(template).render(context))
        written.append(target)
    return written


def environment() -> jinja2.Environment:
    """The templates, which escape everything that is put into a page, and show no control character of a name."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), autoescape=lambda name: str(name).endswith(".html"), finalize=_shown,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    templates.filters |= {
        "plain": _plain,
        "code": _code,
        "fenced": _fenced,
        "counted": terminal.counted,
        "word_for": terminal.word_for,
    }
    return templates


def _shown(value: object) -> object:
    """What a template writes of a value; lines of a text stay lines. Markup is of ours."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def _plain(text: str) -> str:
    """A text with Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", printable(text.replace("\n", " ")))


def _code(text: str) -> str:
    """A text as Markdown code, also within a table."""
    text = printable(text).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall(r"`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _fenced(lines: Sequence[str]) -> str:
    """Lines as a Markdown code block, with a fence longer than any in them."""
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def refuse_overwriting(path: Path) -> None:
    """Errors: ForeignPath if a file exists there that is not a page of this package."""
    files.refuse_overwriting(path, MARKS[0])


def targets(path: Path) -> tuple[Path, Path]:
    """The paths of the page and its Markdown.

    Errors: ForeignPath if one is a file that is not a report of this package.
    """
    pair = path, path.with_suffix(".md")
    for target, mark in zip(pair, MARKS, strict=True):
        files.refuse_overwriting(target, mark)
    return pair


def _context(runs: Sequence[Run], title: str, command: str, engine: str) -> dict[str, Any]:
    decided = verdict.of(runs)
    ranks = ranking.of(runs)
    order = ranks.order
    colors = _colors(order, decided)
    best = decided.best if decided else None
    first = subject.headline_in(order)
    others = [metric for metric in subject.metrics_in(order) if metric.name != first.name]
    columns = costs.columns(run.final for run in runs)
    configurations = decided.configurations if decided else []
    return {
        "title": title,
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "command_line": command,
        "commands": [*([decided.best.command] if decided else []), command],
        "engine": engine,
        "runs": runs,
        "data": _data(runs),
        "sets": _sets(runs),
        "verdict": decided,
        "obstacle": ranks.obstacle,
        "alone": bool(best) and len(runs) == 1,
        "tiles": _tiles(best) if best else [],
        "further": _further(best) if best and len(runs) == 1 else [],
        "headings": [
            "run",
            first.title,
            "monitored",
            *(metric.title for metric in others),
            *(column.heading for column in columns),
            "time",
        ],
        "configurations": configurations,
        "compared_headings": ["configuration", "runs", "monitored", first.title, "behind the best", "difference"],
        "importances": importance.of(runs),
        "first": first.name,
        "compared_by": subject.compared_by(runs).title,
        "colors": colors,
        "rows": [
            _row(run, first, others, columns, colors, decided) for run in (*order, *(r for r in runs if not r.finished))
        ],
        "fronts": _fronts(order, colors),
        "curves": _curves(order, colors),
        "best": best,
        "classes": per_class.listed(best.per_class) if best else [],
        "listed": LISTED,
        "beside": BESIDE,
        "confusion": per_class.confusion(best.per_class) if best else None,
        "labels": per_class.labels(best.per_class) if best else [],
        "probabilities": _probabilities(best) if best else None,
        "quantization": best.quantization if best else None,
        "noisy": NOISY,
        "mistakes": best.mistakes if best else {},
        "explained": best.explained if best else None,
        "failed": [run for run in runs if not run.finished and run.state.status != "RUNNING"],
        "evaluation": terminal.command("eval", best.place) if best else "",
        "bench": terminal.command("bench", *(run.place for run in order)),
    }


def _data(runs: Sequence[Run]) -> str:
    """The data sets of the runs with the sizes of their splits."""
    content = {}
    for run in runs:
        if run.config:
            sizes = {split: count for split, count in run.profile.items() if split != "classes"}
            # What a user's own set is called: its folder.
            own = isinstance(run.config.data, cfg.Pictures) and run.dataset.get("name")
            name = f"{run.config.data.kind} {printable(str(own))}" if own else run.config.data.kind
            content[name] = f" ({terminal.images_of(sizes)})" if sizes else ""
    return "; ".join(f"{name}{sizes}" for name, sizes in content.items())


def _sets(runs: Sequence[Run]) -> list[about.About]:
    """The statistics of the runs' data sets, each once."""
    return list({str(one): one for one in (run.about for run in runs) if one}.values())


def _colors(order: Sequence[Run], decided: verdict.Verdict | None) -> dict[str, int | None]:
    """Label → colour; if there are more runs than colours, only the best and the cheaper one have one."""
    if len(order) <= charts.COLORS:
        return {run.label: number for number, run in enumerate(sorted(order, key=lambda run: int(run.label)))}
    chosen = [run.label for run in (decided.best, decided.cheaper) if run] if decided else []
    return {run.label: chosen.index(run.label) if run.label in chosen else None for run in order}


def _tiles(best: Run) -> list[tuple[str, str, str]]:
    """(name, value, remark) for the results of the best run."""
    assert best.result
    tiles = []
    for metric in _prominent(best):
        value = best.final[metric.name]
        error = best.error_of(value, "test") if metric.is_proportion else None
        tiles.append((f"test {metric.title}", f"{value:.4f}", f"± {error:.4f}" if error else ""))
    if best.result.best is not None:
        tiles.append((best.result.monitor, f"{best.result.best:.4f}", "decides"))
    columns = costs.columns([best.final])
    tiles += [(column.heading, column.text(best.final), "") for column in columns if column.text(best.final)]
    return tiles


def _prominent(best: Run) -> list[Metric]:
    """The metrics of the tiles: the headline, that which decided, and macro-F1, which rare classes lower."""
    macro = [metric for metric in subject.metrics_in([best]) if metric.name == "macro_f1"]
    return [*dict.fromkeys((subject.headline_in([best]), subject.compared_by([best]), *macro))]


def _further(best: Run) -> list[str]:
    """The results of a single run that no tile has, which a table of several runs would have."""
    assert best.result
    others = [metric for metric in subject.metrics_in([best]) if metric not in _prominent(best)]
    texts = [f"{metric.title} {best.final[metric.name]:.4f}" for metric in others if metric.name in best.final]
    return [*texts, f"time {duration(best.result.seconds)}"]


def _row(
    run: Run,
    first: Metric,
    others: Sequence[Metric],
    columns: Sequence[costs.Column],
    colors: dict[str, int | None],
    decided: verdict.Verdict | None,
) -> dict[str, Any]:
    """A run's row in the table: the texts that are shown, and the values that it is sorted by."""
    cells: list[tuple[str, float | None]] = []
    if run.result:
        best = run.result.best
        values = [run.final.get(first.name), best, *(run.final.get(metric.name) for metric in others)]
        cells += [("" if value is None else f"{value:.4f}", value) for value in values]
        cells += [(column.text(run.final), column.value(run.final)) for column in columns]
        cells.append((duration(run.result.seconds), run.result.seconds))
    config = run.config
    facts = list[str]()
    if config:
        model = cfg.model_of(config, config.deploy.network)
        facts = [config.mode.kind, config.compression.kind, cfg.model_name(model)]
    return {
        "run": run,
        "own": [shortened(text) for text in run.own] or facts,
        "cells": cells,
        "color": colors.get(run.label),
        "best": decided is not None and run is decided.best,
        "cheaper": decided is not None and run is decided.cheaper,
    }


def _fronts(order: Sequence[Run], colors: dict[str, int | None]) -> list[dict[str, str]]:
    """Charts of the deciding metric against every cost of the runs, with the labels of the Pareto front."""
    fronts, metric = [], subject.compared_by(order)
    for column in (costs.LATENCY, costs.SIZE, costs.MACS):
        points = verdict.pareto_points(order, column)
        if len(points) < 2:
            continue
        front = set(verdict.front_of(points, order, column))
        shown = [run for run in order if run.label in points]
        dots = [
            charts.Dot(run.label, run.title, column.value(run.final) or 0, verdict.reached(run, metric, column),
                       colors[run.label], run.label in front)
            for run in shown
        ]  # fmt: skip
        labels = ", ".join(sorted(front, key=int))
        svg = charts.scatter(dots, column.title, verdict.reached_title(shown, metric, column))
        fronts.append({"svg": svg, "front": labels, "cost": column.heading})
    return fronts


def _probabilities(best: Run) -> dict[str, Any] | None:
    deployed = best.config.deploy.network if best.config else "student"
    return per_class.probabilities(best.per_class, best.result, deployed) if best.result else None


def _curves(order: Sequence[Run], colors: dict[str, int | None]) -> list[str]:
    """Learning curves of training and validation, as far as the runs have them."""
    # Total losses of different modes are not comparable.
    entropy = "train/loss/ce/student"
    comparable = all(entropy in run.curves for run in order)
    kd = any(isinstance(mimic, cfg.Kd) for run in order if run.config for mimic in run.config.mimics.values())
    weighted = " as it counts in the loss: × (1 - α) with KD" if kd else ""
    names = {entropy: f"training cross entropy{weighted}"} if comparable else {"train/loss": "training loss"}
    many = subject.headline_in(order) is MANY[0]
    metrics = {metric.name: metric for metric in (MANY if many else METRICS) if metric.is_prominent}
    metrics |= {run.metric.name: run.metric for run in order}
    names |= {f"val/student/{metric.name}": f"validation {metric.title}" for metric in metrics.values()}
    if not any(f"val/student/{metric.name}" in run.curves for run in order for metric in metrics.values()):
        counted = [metric for metric in MANY if metric.name in COUNTED] if many else [HEADLINE]
        names |= {f"train/{metric.name}": f"training {metric.title}" for metric in counted}
    charts_of = []
    for name, title in names.items():
        lines = [
            charts.Line(run.label, run.title, run.curves[name], colors[run.label])
            for run in reversed(order) if len(run.curves.get(name, {})) > 1
        ]  # fmt: skip
        if lines:
            charts_of.append(charts.lines(lines, title))
    return charts_of
