"""Schema of the group `mode`: which networks exist."""

from dataclasses import dataclass, field
from typing import Any, Optional

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
class Teacher:
    """A trained, frozen network that a student follows."""

    teacher_from: Optional[str] = weights_path(None)
    """The teacher's weights: a run (directory or MLflow run id) or a file as for `model.weights`; null: those that
    its architecture's `weights` names."""
    teacher_network: str = "student"
    """Which network of that run or file is the teacher."""
    trust: bool = False
    """Import and call the `custom` model that the teacher's run names: its code comes from whoever made that run."""
    teacher: Optional[Model] = None
    """The teacher's architecture; null: that of the run, or `model` for a file. Choose with `model@mode.teacher=…`."""
    teacher_weight: float = bounded(1.0, min=0)
    """What the teacher counts for beside others, whatever the sum."""
    teacher_mean: Optional[list[float]] = None
    """What the teacher's images are normalised with, a number for each channel; null: as its run says, or as `data`."""
    teacher_std: Optional[list[float]] = bounded(None, above=0)
    """The same of the standard deviation."""
    teacher_image_size: Any = None
    """Pixels of the teacher's images, S or [H, W]; null: as its run says, or as `data`."""


@dataclass
class ClsTeacher(Teacher, Mode):
    """A network that learns from the labels and from one or several trained, frozen teachers."""

    kind: str = "cls_teacher"
    more_teachers: dict[str, Teacher] = field(default_factory=dict)
    """Further teachers by names of your choice: `+mode.more_teachers={NAME:{teacher_from:RUN}}`, and the other keys of
    the first one; `+model@mode.more_teachers.NAME.teacher=…`."""

    @property
    def teachers(self) -> dict[str, Teacher]:
        """Every teacher by the name of its network; the first is `teacher`."""
        return {"teacher": self, **self.more_teachers}
