"""Plots of a run: learning curves, learning rate, confusion matrix, worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from paddle import nn

from ..compression import plots as compressed
from ..data import Split
from ..data.labels import label_text
from ..data.splits import picture
from ..metrics import Metric
from ..report.figures import plain_texts
from ..runs.history import curves
from ..runs.journal import PLOTS
from ..terminal import counted, printable, word_for
from ..training.evaluation import Predictions
from .mistakes import KEPT

#: A confusion matrix with more classes shows no numbers in its cells.
NUMBERED_CLASSES = 20
#: Columns of the grid of worst mistakes; width and height of a cell with its caption, and what a line more of it takes.
#: The longer side of a picture is 0.9.
COLUMNS, CELL, LINE = 8, (1.1, 1.4), 0.12
#: Characters of a caption that are as wide as a cell, with an arrow.
FITTING = 14


def draw(
    directory: Path,
    metrics: Sequence[Metric],
    confusion: np.ndarray,
    predictions: Predictions,
    split: Split,
    classes: list[str],
    network: nn.Layer,
    plan: dict[str, Any],
) -> list[Path]:
    """Draw all plots of a finished run into its `plots` folder; `plan`: what was pruned, if anything."""
    folder = directory / PLOTS
    folder.mkdir(exist_ok=True)
    classes = [printable(name) for name in classes]
    history = curves(directory)
    with plain_texts("".join(classes)):
        figures: dict[str, Callable[[], Figure | None]] = {
            "learning_curves": lambda: learning_curves(history, metrics),
            "learning_rate": lambda: learning_rate(history),
            "mistakes": lambda: mistakes(predictions, split, classes),
            "rounding": lambda: compressed.rounding(network),
        }
        # Multi-label runs have no confusion matrix.
        if confusion.ndim == 2:
            figures["confusion_matrix"] = lambda: confusion_matrix(confusion, classes)
        if plan:
            figures["pruning"] = lambda: compressed.pruning(plan)
        return [path for name, make in figures.items() if (path := _save(folder / f"{name}.png", make()))]


def _save(path: Path, figure: Figure | None) -> Path | None:
    if figure is None:
        return None
    # Higher compression takes longer than drawing.
    figure.savefig(path, dpi=110, bbox_inches="tight", pil_kwargs={"compress_level": 1})
    # Its panels refer to each other, and would be in memory beside the next ones.
    figure.clear()
    return path


def learning_curves(history: dict[str, dict[int, float]], metrics: Sequence[Metric]) -> Figure:
    """Validation metrics over the steps, with the training metrics of the same name."""
    figure = Figure(figsize=(5 * len(metrics), 3.6))
    for panel, metric in zip(figure.subplots(1, len(metrics), squeeze=False).flat, metrics, strict=True):
        for name, points in history.items():
            kind, _, rest = name.partition("/")
            if kind == "train" and rest == metric.name:
                panel.plot(list(points), list(points.values()), color="0.65", linewidth=1, label="training")
            elif kind == "val" and rest.partition("/")[2] == metric.name:
                panel.plot(
                    list(points),
                    list(points.values()),
                    marker="o",
                    markersize=3,
                    label=f"validation, {rest.partition('/')[0]}",
                )
        panel.set(xlabel="optimizer step", title=metric.title)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    return figure


def learning_rate(history: dict[str, dict[int, float]]) -> Figure:
    """Learning rate of every optimizer over the steps."""
    figure = Figure(figsize=(5, 3))
    panel = figure.subplots()
    for name, points in history.items():
        if name.startswith("train/lr"):
            panel.plot(list(points), list(points.values()), label=name.removeprefix("train/lr").strip("/") or "student")
    panel.set(xlabel="optimizer step", title="learning rate")
    panel.grid(alpha=0.3)
    if len(panel.lines) > 1:
        panel.legend(frameon=False)
    return figure


def confusion_matrix(confusion: np.ndarray, classes: list[str]) -> Figure:
    """Confusion matrix with each row (true class) normalised to 1."""
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    side = min(12.0, 2.5 + 0.42 * len(classes))
    figure = Figure(figsize=(side, side))
    panel = figure.subplots()
    # An image would be resampled, which takes several times the memory of the plot.
    edges = np.arange(len(classes) + 1) - 0.5
    panel.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)
    panel.set_aspect("equal")
    panel.invert_yaxis()
    if len(classes) <= NUMBERED_CLASSES:
        places = range(len(classes))
        panel.set_xticks(places, classes, rotation=45, ha="right")
        panel.set_yticks(places, classes)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            panel.text(column, row, str(confusion[row, column]), ha="center", va="center", color=color, fontsize=8)
    panel.set(xlabel="predicted class", ylabel="class", title="confusion matrix, test")
    return figure


def mistakes(predictions: Predictions, split: Split, classes: list[str]) -> Figure:
    """The wrong predictions with the highest confidence, with their images."""
    worst = predictions.worst(KEPT)
    rows = max(1, -(-len(worst) // COLUMNS))
    names = [[label_text(of[place], classes) for of in (predictions.labels, predictions.classes)] for place in worst]
    is_long = any(len(" → ".join(pair)) > FITTING for pair in names)
    cell_height = CELL[1] + is_long * LINE
    figure = Figure(figsize=(1.4 * COLUMNS, 1.25 * (cell_height * rows + 0.2)))
    # One axes for all pictures: an axes each would take as long as drawing all of them in one.
    panel = figure.subplots()
    panel.axis("off")
    count = len(predictions.labels)
    title = f"{predictions.wrong} of {counted(count, 'test image')} wrong: class → prediction, confidence"
    right = f"no mistakes: all {counted(count, 'test image')} {word_for(count, 'is', 'are')} right"
    panel.set_title(title if len(worst) else right, pad=12)
    for number, place in enumerate(worst):
        pixels = picture(split, int(predictions.indices[place])).squeeze()
        height, width = (0.9 * side / max(pixels.shape[:2]) for side in pixels.shape[:2])
        row, column = divmod(number, COLUMNS)
        middle, bottom = column * CELL[0] + 0.5, row * cell_height + 1 + is_long * LINE
        extent = (middle - width / 2, middle + width / 2, bottom, bottom - height)
        panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent)
        decision = ("\n→ " if is_long else " → ").join(map(_fitting, names[number]))
        caption = f"{decision}\n{predictions.confidence[place]:.0%}"
        panel.text(middle, bottom - height - 0.05, caption, ha="center", va="bottom", fontsize=7 if is_long else 8)
    panel.set(xlim=(0, COLUMNS * CELL[0]), ylim=(rows * cell_height - 0.2, -0.2))
    return figure


def _fitting(name: str) -> str:
    """A name, of a long one its beginning and its end: classes can differ in either."""
    return name if len(name) <= FITTING else f"{name[: FITTING // 2 - 1]}…{name[-FITTING // 2 :]}"
