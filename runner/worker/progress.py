"""The progress of training on the terminal: a bar, or plain lines where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..metrics import HEADLINE, MANY, Metric
from ..terminal import duration, screen
from .eta import TimeLeft

#: Seconds between two plain lines.
PLAIN_EVERY_S = 15.0
#: The training metric that is shown: top-1, or Hamming loss for multi-label images.
IN_PROGRESS = [HEADLINE, *(metric for metric in MANY if metric.name == "hamming_loss")]
#: Separator of numbers; least width of the columns of bar, slash, spaces and time left.
SEPARATOR, BAR_AND_TIME = " · ", 18


def remaining(left: TimeLeft) -> str:
    """The time that is left; dashes before there is an estimate."""
    seconds = left.seconds()
    return "-:--" if seconds is None else duration(seconds)


class TimeLeftColumn(ProgressColumn):
    """The remaining time of training, counting down."""

    def __init__(self, left: TimeLeft) -> None:
        super().__init__()
        self.left = left

    def render(self, _task: Task) -> Text:
        """`1:05`, or dashes before there is an estimate."""
        return Text(remaining(self.left), style="progress.remaining")


class Display:
    """Shows training and validation metrics."""

    def __init__(
        self, steps: int, epochs: int, left: TimeLeft, metrics: Sequence[Metric], done: int = 0, prefix: str = ""
    ) -> None:
        """`metrics` are those shown after validations; `prefix` begins every line.

        There is no bar on a dumb terminal, such as that of several parallel jobs.
        """
        self.steps, self.epochs, self.left, self.metrics, self.prefix = steps, epochs, left, metrics, prefix
        self.printed = time.monotonic()
        self.console = screen()
        self.bar: Progress | None = None
        self.task: Any = None
        if sys.stdout.isatty() and not self.console.is_dumb_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeLeftColumn(left),
                console=self.console,
                redirect_stderr=False,
            )
            self.task = self.bar.add_task("training", total=steps, completed=done, numbers="")
            self.bar.start()

    def resize(self, steps: int, epochs: int, evaluations: int) -> None:
        """The length of the run has changed; `evaluations` are still to come."""
        self.steps = self.left.steps = steps
        self.left.evaluations = evaluations
        self.epochs = epochs
        if self.bar:
            self.bar.update(self.task, total=steps)

    def training(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Show the latest training metrics."""
        self.left.trained(step)
        numbers = [
            f"loss {values['train/loss']:.3f}",
            *(f"{one.title} {values[f'train/{one.name}']:.3f}" for one in IN_PROGRESS if f"train/{one.name}" in values),
            f"lr {values['train/lr']:.2g}",
        ]
        if "train/images_per_s" in values:
            numbers.append(f"{values['train/images_per_s']:,.0f} images/s")
        if self.bar:
            description = f"epoch {epoch}/{self.epochs}"
            room = self.console.width - len(description) - 2 * len(str(self.steps)) - BAR_AND_TIME
            while len(numbers) > 1 and len(SEPARATOR.join(numbers)) > room:
                numbers.pop()
            self.bar.update(self.task, completed=step, description=description, numbers=SEPARATOR.join(numbers))
        elif time.monotonic() - self.printed >= PLAIN_EVERY_S:
            self._line(step, f"epoch {epoch}/{self.epochs} · {SEPARATOR.join(numbers)} · {remaining(self.left)} left")

    def validation(self, step: int, epoch: int, values: dict[str, float], remark: str) -> None:
        """Show the metrics of an evaluation; `remark`: how they compare with earlier ones, if at all."""
        self.left.validated(step)
        networks = dict.fromkeys(name.partition("/")[0] for name in values)
        parts = [
            " ".join([name, *(f"{one.title} {values[f'{name}/{one.name}']:.3f}" for one in self.metrics)])
            for name in networks
        ]
        mark = f" · {remark}" if remark else ""
        left = "" if self.bar or step == self.steps else f" · {remaining(self.left)} left"
        begun = f"epoch {epoch}/{self.epochs} · " if self.steps else ""
        self._line(step, f"{begun}val {SEPARATOR.join(parts)}{left}{mark}")

    def note(self, text: str) -> None:
        """Show a note for the user."""
        self.console.print(Text.assemble(self.prefix, (text, "dim")), soft_wrap=True)

    def _line(self, step: int, text: str) -> None:
        self.printed = time.monotonic()
        # Nothing may be trained, but only measured.
        where = f"step {step}/{self.steps} · " if self.steps else ""
        self.console.print(Text.assemble(self.prefix, (where, "dim"), text), soft_wrap=True)

    def close(self) -> None:
        """Restore the terminal."""
        if self.bar:
            self.bar.stop()
            self.bar = None
