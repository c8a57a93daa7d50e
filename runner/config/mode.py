"""Schema of the group `mode`: which networks exist."""

from dataclasses import dataclass, field
from typing import Any, Optional

from .fields import bounded, size_of_images, weights_path
from .model import Model
from .optimization import Optimizer, Schedule


@dataclass
class Mode:
    """Which networks exist and what each optimizer minimises."""

    kind: str = "???"
    """Name of the choice; set by it."""


@dataclass
class Cls(Mode):
    """One network, one optimizer."""

    kind: str = "cls"
    average: bool = False
    """Distil the network from its own moving average, a mean teacher (Tarvainen & Valpola, NeurIPS 2017)."""
    average_decay: float = bounded(0.999, min=0, below=1)
    """Decay of that average; smaller at first, as with `train.ema_warmup`."""


@dataclass
class ClsDistill(Mode):
    """Two or more networks that learn from the labels and from each other, one optimizer over all."""

    kind: str = "cls_distill"
    peer: Optional[Model] = None
    """The second network and all further ones; null: the same as `model`. Choose with `model@mode.peer=…`."""
    peers: int = bounded(2, min=2)
    """How many networks learn from each other; each follows the mean of the others."""


@dataclass
class ClsDistillMultiopt(ClsDistill):
    """Two or more networks that learn from each other, one optimizer and one schedule each."""

    kind: str = "cls_distill_multiopt"
    peer_optimizer: Optional[Optimizer] = None
    """Optimizer of all networks but the first; null: the same as `optimizer`. Choose with
    `optimizer@mode.peer_optimizer=…`."""
    peer_schedule: Optional[Schedule] = None
    """Schedule of all networks but the first; null: the same as `schedule`. Choose with
    `schedule@mode.peer_schedule=…`."""


@dataclass
class Teacher:
    """A trained, frozen network that a student follows."""

    teacher_from: Optional[str] = weights_path(None)
    """The teacher's weights: a run (directory or MLflow run id) or a file as for `model.weights`; null: those that
    its architecture's `weights` names, also published ones (`mode.teacher.weights=imagenet`)."""
    teacher_network: str = "student"
    """Which network of that run or file is the teacher."""
    trust: bool = False
    """Trust the teacher's run: import and call the `custom` model that it names, whose code comes from whoever made
    that run."""
    teacher: Optional[Model] = None
    """The teacher's architecture; null: that of the run, or `model` for a file. Choose with `model@mode.teacher=…`."""
    teacher_weight: float = bounded(1.0, min=0)
    """Weight of this teacher relative to the others; they need not sum to 1."""
    teacher_mean: Optional[list[float]] = bounded(None, min=-1e6, max=1e6)
    """Mean of the teacher's normalisation, one number a channel; null: as in its run, or as in `data`."""
    teacher_std: Optional[list[float]] = bounded(None, min=1e-6, max=1e6)
    """Standard deviation of the teacher's normalisation; null: likewise."""
    teacher_image_size: Any = size_of_images(None)
    """Size of the teacher's images in pixels, S or [H, W]; null: as in its run, or as in `data`."""


def key_of_teacher(name: str) -> str:
    """The config key of the teacher with that name; the first is `teacher`, and its keys are the mode's own."""
    return "mode" if name == "teacher" else f"mode.more_teachers.{name}"


@dataclass
class ClsTeacher(Teacher, Mode):
    """A network that learns from the labels and from one or several trained, frozen teachers."""

    kind: str = "cls_teacher"
    more_teachers: dict[str, Teacher] = field(default_factory=dict)
    """Further teachers by names of your choice: `+mode.more_teachers={NAME:{teacher_from:RUN}}`, and the other keys of
    the first one; `+model@mode.more_teachers.NAME.teacher=…`."""
    precompute_logits: bool = False
    """Compute the teachers' logits for each training image once, before training, instead of in every step: of the
    image as an evaluation prepares it, without augmentation."""

    @property
    def teachers(self) -> dict[str, Teacher]:
        """Every teacher by the name of its network; the first is `teacher`."""
        return {"teacher": self, **self.more_teachers}
