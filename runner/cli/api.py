"""The Python API: `runner.train`, `runner.sweep`, `runner.open`, and what they return."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import runs
from ..config import Config, store
from ..deploy.manifest import EXPORT
from ..errors import CheckpointError, ConfigError, DataError, RunFailed
from ..launch import supervisor
from ..runs import history, journal
from ..runs import sweep as sweeps
from ..runs.result import Result
from .call import call
from .classifier import classifier_of
from .open_run import TRUST, classes_of, find_run, open_run
from .prediction import Picture, Prediction, Undisturbed, each, prediction_of
from .train import INFORMING, MULTIRUN
from .undisturbed import undisturbed
from .values import assignments, number_of

if TYPE_CHECKING:
    import paddle
    import pandas as pd

    from ..deploy.predict import Classifier


def train(*overrides: str, **values: object) -> Run:
    """Train one run in child processes and show its progress; returns the complete run.

    `overrides` are words as on the command line. `values` are Python values, which need no quotes; dotted keys go into
    a dictionary. Errors: the UserError that the command would have ended with; KeyboardInterrupt.

        run = runner.train("mode=cls_distill", "compression=qat", **{"data.root": "my pictures"}, train={"epochs": 3})
    """
    directory = call("train", _words("train", overrides, values))
    if directory is None:
        raise ConfigError("Nothing was trained here: with launch=cluster the commands of all machines were printed.")
    return Run(directory, (TRUST,))


def sweep(*overrides: str, **values: object) -> Sweep:
    """Train a run for every combination of values, as `-m` does; returns them once all have ended.

    A list among `values` is swept over. A failed job does not stop the others; the table has its reason. Errors:
    RunFailed if no job finished, else as in `train`.

        sweep = runner.sweep("mode=cls,cls_distill", **{"optimizer.lr": [0.1, 0.01]})
        sweep.table.sort_values("top1")
    """
    directory = call("sweep", _words("sweep", overrides, values))
    assert directory is not None
    result = Sweep(directory)
    states = [runs.state(run.directory) for run in result.runs]
    if not any(state.result for state in states):
        first = next(iter(sweeps.refusals(directory).values()), None) or next(iter(states), None)
        reason = f": {first.reason}" if first else ""
        raise RunFailed(f"No job of {directory} finished{reason}", first.exit_code if first else 1)
    return result


def open(run: str | os.PathLike[str], *overrides: str, trust: bool = False) -> Run:
    """Open an existing run by its directory or MLflow run id.

    `overrides` change its config for this use, such as `data.root=DIR`. `trust` allows calls of code that the run
    names. Errors: CheckpointError if there is no such run.

        runner.open("outputs/mine").metrics["top1"]
    """
    words = [*_words("open", overrides, {}), *([TRUST] if trust else [])]
    if not isinstance(run, (str, os.PathLike)):
        raise ConfigError(f"A value of type {type(run).__name__} is not a run. Give its directory or MLflow run id.")
    directory, _ = find_run(os.fsdecode(run), words)
    return Run(directory.absolute(), tuple(words))


@dataclass(frozen=True)
class Run:
    """A run: what `runner.train` and `runner.open` return."""

    directory: Path
    """The run directory."""
    overrides: tuple[str, ...] = field(default=(), repr=False)
    """Overrides of the run's config, and `trust=true` if its code may be called."""
    _classifiers: dict[Any, Classifier] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Engines are of one process.
        return Run, (self.directory, self.overrides)

    @property
    def config(self) -> Config:
        """Its config, typed: `run.config.train.epochs`."""
        _, config = find_run(str(self.directory), list(self.overrides))
        return config

    @property
    def result(self) -> Result:
        """Its complete result: `run.result.final["params"]`. Errors: CheckpointError where it is not complete."""
        return supervisor.result(self.directory)

    @property
    def metrics(self) -> dict[str, float]:
        """Its test metrics: `run.metrics["top1"]`, `run.metrics["student1/top1"]`. Errors: as in `result`."""
        return dict(self.result.test)

    @property
    def history(self) -> pd.DataFrame:
        """What was logged: one row per step, one column per metric, NaN for missing values.

        Errors: CheckpointError for a run that was fetched from MLflow, whose steps are there.

            run.history["student/top1"].dropna().plot()
        """
        import pandas as pd

        if not (self.directory / journal.JOURNAL).is_file():
            raise CheckpointError(f"{self.directory} has no {journal.JOURNAL}: its steps are in MLflow alone.")
        columns = {name: pd.Series(points) for name, points in history.curves(self.directory).items()}
        return pd.DataFrame(columns).sort_index().rename_axis("step")

    @property
    def classes(self) -> list[str]:
        """The names of its classes, in the order of probabilities: `run.classes[0]`."""
        return classes_of(self.directory) or list(self._classifier(None, None).classes)

    def predict(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        engine: str | None = None,
        network: str | None = None,
        on_error: str = "fail",
    ) -> list[Prediction]:
        """Classify pictures as `runner predict` does, prepared as in training.

        A single path may be a folder or a glob; bytes and open files are the content of one picture. Arrays are uint8
        [H, W] or [H, W, C], or [N, H, W, C] for several; of a network of other channels than 1 and 3, [H, W, C] with
        exactly those. A generator is read as it is needed. `engine` computes the exported file (`onnxruntime`,
        `openvino`, `paddle`), `network` names one of several. `on_error="skip"` keeps a place, with `error`, for what
        cannot be read. `[]` gives `[]`. Errors: DataError naming the first picture that
        cannot be read; CheckpointError, ConfigError.

            for prediction in run.predict(["a.png", "b.png"]):
                print(prediction.picture, prediction.label, prediction.probability)
        """
        if on_error not in ("fail", "skip"):
            raise ConfigError(f"on_error={on_error!r}: it is 'fail' or 'skip'.")
        from ..deploy.predict import answers

        source, classifier, predictions = each(pictures), self._classifier(engine, network), []
        # The pictures come from the program, whose code may draw random numbers or predict, too.
        for number, answer in enumerate(answers(Undisturbed(classifier), source)):
            if answer.error and on_error == "fail":
                raise DataError(f"Picture {number}: {answer.error}")
            predictions.append(prediction_of(number, answer, classifier))
        return predictions

    def network(self, name: str | None = None, weights: str = "final") -> paddle.nn.Layer:
        """A network in this process, in evaluation mode: float32 [N, C, H, W], normalised, to logits [N, classes].

        `weights` are `final` (what it ended with), `best` or `last`. Each call builds a new one. Errors:
        CheckpointError.

            logits = run.network()(images)
        """
        if weights not in ("final", "best", "last"):
            raise ConfigError(f"weights={weights!r}: they are 'final', 'best' or 'last'.")
        with undisturbed():
            directory, config = open_run(str(self.directory), list(self.overrides))
            from ..worker import finished

            return finished.classifier(directory, config, name or config.deploy.network, weights).network

    def export(
        self,
        format: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Write files for engines, compare each with the network; returns their folder, which `model.json` describes.

        `format`: `onnx`, `paddle`, `safetensors` or several; None for those of the config. What the folder had before
        is replaced: a note in what is printed names the files that are gone. Errors: as in `runner export`.

            folder = run.export(format="onnx")
        """
        if output is None and not (self.directory / journal.JOURNAL).is_file():
            raise ConfigError(f"{self.directory} was fetched from MLflow and goes with this process: give an output.")
        own, wanted = store.read(self.directory / journal.CONFIG).deploy.network, network or self.config.deploy.network
        formats = format if isinstance(format, str) or format is None else ",".join(format)
        options = {"--format": formats, "--network": network, "--output": output and os.path.abspath(output)}
        words = [f"{option}={value}" for option, value in options.items() if value]
        call("export", [str(self.directory), *words, *self.overrides])
        # Engines may have opened files that the export has replaced.
        self._classifiers.clear()
        place = self.directory if wanted == own else self.directory / wanted
        return Path(os.path.abspath(output) if output else place) / EXPORT

    def report(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Write a report page, by default `report.html` in its directory; returns its path.

        page = run.report("mine.html")
        """
        return _report(self.directory, output or self.directory / sweeps.REPORT)

    def _classifier(self, engine: str | None, network: str | None) -> Classifier:
        """The classifier of `runner predict`, cached."""
        with undisturbed():
            if (engine, network) not in self._classifiers:
                # An exported file calls no code of the run.
                words = [text for text in self.overrides if not (engine and text == TRUST)]
                self._classifiers[engine, network] = classifier_of(str(self.directory), words, engine, network)
            return self._classifiers[engine, network]


@dataclass(frozen=True)
class Sweep:
    """Several runs: what `runner.sweep` returns, or `runner.Sweep(Path("outputs/…/sweeps/…"))` for an existing one."""

    directory: Path
    """The folder of the sweep."""

    @property
    def runs(self) -> list[Run]:
        """Its runs, in the order of the combinations: `sweep.runs[0].predict("photo.png")`."""
        return [Run(path.absolute(), (TRUST,)) for path in sweeps.jobs(self.directory)]

    @property
    def table(self) -> pd.DataFrame:
        """One row per job: its status, the overrides that differ between jobs, and its final numbers.

        Values of keys that hold numbers are numbers, others are text.

        sweep.table.sort_values("top1", ascending=False)
        """
        import pandas as pd

        from ..report import subject

        rows = {}
        for job in subject.jobs(self.directory):
            pairs = [text.lstrip("+~").partition("=")[::2] for text in job.own]
            own = {key: number_of(text, key) for key, text in pairs}
            ended = {"status": job.state.status, "reason": job.state.reason}
            rows[job.directory.name] = own | ended | job.final
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("job")

    def report(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Write the page that compares its runs, in its folder by default; returns its path.

        page = sweep.report()
        """
        return _report(self.directory, output or self.directory / sweeps.REPORT)


def _report(directory: Path, output: str | os.PathLike[str]) -> Path:
    page = Path(os.path.abspath(output))
    call("report", [str(directory), f"--output={page}"])
    return page


def _words(function: str, overrides: Sequence[str], values: dict[str, Any]) -> list[str]:
    """The command's arguments. Errors: ConfigError."""
    for word in overrides:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r}: overrides are text as on the command line, such as 'mode=cls'.")
        if word.startswith("-") or word in (*MULTIRUN, *INFORMING):
            hint = "runner.sweep trains several runs. " if word in MULTIRUN else ""
            raise ConfigError(f"{word}: runner.{function} takes no options. {hint}Give overrides, such as 'mode=cls'.")
    return [*overrides, *assignments(values, sweeps=function == "sweep")]
