"""Schema of the group `mode`: which networks exist."""

from dataclasses import dataclass
from typing import Optional

from .fields import bounded, weights_path
from .model import Model
from .optimization import Optimizer, Schedule


@dataclass
class Mode:
    """Which networks exist and what each optimizer minimises."""

    kind: str = "???"
    """What the choice is; set by it."""


@dataclass
class Cls(Mode):
    """One network, one optimizer."""

    kind: str = "cls"
    average: bool = False
    """Have the network follow its own average over the steps, a mean teacher (Tarvainen & Valpola, NeurIPS 2017)."""
    average_decay: float = bounded(0.999, min=0, below=1)
    """Share of the average that stays in each step; smaller at first, as with `train.ema_warmup`."""


@dataclass
class ClsDistill(Mode):
    """Two or more networks that learn from the labels and from each other, one optimizer over all."""

    kind: str = "cls_distill"
    peer: Optional[Model] = None
    """The second network and all further ones; null: the same as `model`. Choose with `model@mode.peer=…`."""
    peers: int = bounded(2, min=2)
    """How many networks learn from each other; each follows the others in the mean over them."""


@dataclass
class ClsDistillMultiopt(ClsDistill):
    """Two or more networks that learn from each other, one optimizer and one schedule each."""

    kind: str = "cls_distill_multiopt"
    peer_optimizer: Optional[Optimizer] = None
    """Of all but the first network; null: the same as `optimizer`. Choose with `optimizer@mode.peer_optimizer=…`."""
    peer_schedule: Optional[Schedule] = None
    """Of all but the first network; null: the same as `schedule`. Choose with `schedule@mode.peer_schedule=…`."""


@dataclass
class ClsTeacher(Mode):
    """A network that learns from the labels and from a trained, frozen teacher."""

    kind: str = "cls_teacher"
    teacher_from: Optional[str] = weights_path(None)
    """The teacher's weights: a run (directory or MLflow run id) or a file as for `model.weights`; null: those that
    `mode.teacher.weights` names."""
    teacher_network: str = "student"
    """Which network of that run or file is the teacher."""
    trust: bool = False
    """Import and call the `custom` model that the teacher's run names: its code comes from whoever made that run."""
    teacher: Optional[Model] = None
    """The teacher's architecture; null: that of the run, or `model` for a file. Choose with `model@mode.teacher=…`."""
    more_teachers: list[str] = weights_path([])
    """Further teachers, as `teacher_from`; the architecture is that of each one's run, for a file as of `teacher`."""
    teacher_weights: list[float] = bounded([], min=0)
    """What each teacher counts for, in their order, whatever the sum; empty: all the same."""

    @property
    def teachers(self) -> dict[str, Optional[str]]:
        """Name → weights of every teacher: `teacher`, `teacher1`, …"""
        names = ["teacher", *(f"teacher{number}" for number in range(1, len(self.more_teachers) + 1))]
        return dict(zip(names, [self.teacher_from, *self.more_teachers], strict=True))
