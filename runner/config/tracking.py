"""Schema of `tracking`: where the journal of a run is sent."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from ..files.digests import text_digest
from .fields import bounded, path

#: Prefixes of addresses other than MLflow's: a place in the run directory, a folder, the user's code.
RUN, FOLDER, CODE = "run:", "folder:", "custom:"


class Upload(Enum):
    """Which checkpoints go to the tracking server."""

    best = "best"
    last = "last"
    all = "all"
    none = "none"


@dataclass
class Tracker:
    """A tracker, which a run's journal is replayed to."""

    kind: str = "???"
    """Name of the choice; set by it."""
    drain_s: float = bounded(60.0, min=0, max=1e6)
    """Seconds for which the end of a run waits until everything is sent."""

    @property
    def address(self) -> str:
        """Where it sends a run. An address that only the run itself names is not trusted."""
        raise NotImplementedError

    @property
    def packages(self) -> dict[str, str]:
        """Modules that it needs besides this package's own → what to do if one is missing."""
        return {}


@dataclass
class Csv(Tracker):
    """`metrics.csv` in the run directory, with the columns step, epoch, name, value."""

    kind: str = "csv"

    @property
    def address(self) -> str:
        """A file of the run directory."""
        return f"{RUN}metrics.csv"


@dataclass
class TensorBoard(Tracker):
    """Event files of TensorBoard: metrics, hyperparameters and the config."""

    kind: str = "tensorboard"
    folder: Optional[str] = path(None)
    """Folder in which each run gets a folder of its own, so that TensorBoard compares them; null: in the run
    directory."""

    @property
    def address(self) -> str:
        """A folder of the run directory, or any other."""
        return f"{RUN}tensorboard" if self.folder is None else f"{FOLDER}{self.folder}"

    @property
    def packages(self) -> dict[str, str]:
        """TensorBoard's own writer."""
        return {"tensorboard": "pip install tensorboard, or do without: tracking=csv"}


@dataclass
class CustomTracker(Tracker):
    """A user-defined tracker: `target(run=…, **kwargs)` returns an object whose `replay(events)` takes new events."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""

    @property
    def address(self) -> str:
        """The callable, with a digest of its arguments, which may determine where the run is sent."""
        return f"{CODE}{self.target}#{text_digest(json.dumps(self.kwargs, sort_keys=True, default=str))}"

    @property
    def packages(self) -> dict[str, str]:
        """The module of the callable."""
        remedy = f"{self.target} is looked for in the working directory and among the installed packages"
        return {self.target.partition(":")[0].partition(".")[0]: remedy}


@dataclass
class Tracking:
    """Where metrics, parameters and files of a run are compared with those of others."""

    kind: str = "none"
    system_metrics: bool = False
    """Log the machine's use of processors, memory, disk, network and GPUs during training, under MLflow's names,
    `system/…`."""
    system_metrics_s: float = bounded(10.0, min=1, max=1e6)
    """Seconds between two such measurements."""
    also: dict[str, Tracker] = field(default_factory=dict)
    """Further trackers by name; each choice but `mlflow` and `none` adds one, as in `tracking=[mlflow,csv]`."""

    @property
    def trackers(self) -> dict[str, Tracker]:
        """Name → settings of every tracker."""
        return dict(self.also)


@dataclass
class Mlflow(Tracking, Tracker):
    """MLflow: an embedded store or a server."""

    kind: str = "mlflow"
    uri: str = path("sqlite:///outputs/mlflow.db")
    """Tracking URI; relative sqlite paths start at the working directory."""
    checkpoints: Upload = Upload.best
    """Which checkpoints are uploaded as artefacts: the best; the best and the last; all of them; none."""
    tags: dict[str, str] = field(default_factory=dict)
    """Further tags of the run."""
    note: Optional[str] = None
    """Description of the run, shown by MLflow; Markdown."""
    register: Optional[str] = None
    """Name under which the exported model is registered in MLflow; the alias `best` marks the best version of that
    name."""
    drain_s: float = bounded(60.0, min=0, max=1e6)
    """Seconds for which the end of a run waits until everything is sent."""

    @property
    def address(self) -> str:
        """The store."""
        return self.uri

    @property
    def packages(self) -> dict[str, str]:
        """MLflow itself."""
        return {"mlflow": "pip install mlflow, or do without: tracking=none"}

    @property
    def trackers(self) -> dict[str, Tracker]:
        """Name → settings of every tracker."""
        return {"mlflow": self, **self.also}
