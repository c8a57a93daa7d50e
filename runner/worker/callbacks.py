"""The user's callbacks, `train.callbacks`. They get copies, and cannot change training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import store
from ..config.targets import load_target
from ..errors import CallbackFailed, ConfigError
from ..runs.journal import LOG
from ..training import seeding
from ..training.evaluation import Evaluation
from ..training.state import Observer, Progress

#: The methods that a callback may have; each is called if it exists.
MOMENTS = ("on_begin", "on_step", "on_evaluation", "on_checkpoint", "on_note", "on_end")


@dataclass(frozen=True)
class Run:
    """The argument of `on_begin`."""

    directory: Path
    """The run directory."""
    config: dict[str, Any]
    """Every leaf of the config under its dotted name."""
    step: int
    """Optimizer steps that a resumed run has already done."""
    steps: int
    """Optimizer steps of the whole run."""


class Callbacks:
    """The callbacks of a run, in the order of the config."""

    def __init__(self, settings: list[cfg.Callback], directory: Path) -> None:
        """Errors: ConfigError if a callable is not found, CallbackFailed if it raises."""
        self.directory = directory
        self._objects: list[tuple[str, Any]] = []
        for one in settings:
            target = load_target(one.target)
            instance = self._call(one.target, "its constructor", target, **one.kwargs)
            if not any(callable(getattr(instance, moment, None)) for moment in MOMENTS):
                raise ConfigError(
                    f"train.callbacks: {one.target} returns a {type(instance).__name__} with none of the methods "
                    f"{', '.join(MOMENTS)}, so it would never be called."
                )
            self._objects.append((one.target, instance))

    def tell(self, moment: str, *arguments: Any) -> None:
        """Call a method of every callback that has it. Errors: CallbackFailed naming the first one that raises."""
        for target, instance in self._objects:
            if method := getattr(instance, moment, None):
                self._call(target, moment, method, *copy.deepcopy(arguments))

    def begin(self, config: cfg.Config, step: int, steps: int) -> None:
        """Training is about to begin or to resume."""
        self.tell("on_begin", Run(self.directory, store.leaves(config), step, steps))

    def around(self, observer: Observer) -> Observer:
        """The observer, with the callbacks called after it; without callbacks the observer itself."""
        return CallbackObserver(self, observer) if self._objects else observer

    def _call(self, target: str, moment: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        random = seeding.state()
        try:
            return method(*arguments, **named)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            reason = f"{type(error).__name__}: {error}".strip().rstrip(".")
            raise CallbackFailed(
                f"train.callbacks: {target} failed in {moment}: {reason}. Where: {self.directory / LOG}"
            ) from error
        finally:
            # Random numbers that a callback draws must not change those of training.
            seeding.restore(random)


class CallbackObserver:
    """An observer of the loop that passes its reports on to the callbacks."""

    def __init__(self, callbacks: Callbacks, observer: Observer) -> None:
        self._callbacks, self._observer = callbacks, observer
        self.stepped, self.stopping = observer.stepped, observer.stopping

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""
        self._observer.logged(progress, values)
        self._callbacks.tell("on_step", progress.step, progress.epochs_begun, values)

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""
        self._observer.evaluated(progress, evaluation, better)
        self._callbacks.tell("on_evaluation", progress.step, progress.epochs_begun, evaluation.values, better)

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """The state was written to disk."""
        self._observer.checkpoint(progress, better)
        self._callbacks.tell("on_checkpoint", progress.step, progress.epochs_begun, better)

    def noted(self, text: str) -> None:
        """A note for the user."""
        self._observer.noted(text)
        self._callbacks.tell("on_note", text)
