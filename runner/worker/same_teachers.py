"""Whether the teachers of a resumed run are those that it was trained with so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from paddle import nn

from .. import config as cfg
from ..checkpoints import preprocessing, weights
from ..checkpoints.reading import Saved
from ..errors import CheckpointError
from ..files.digests import content_digest
from .teacher import CUT


def digest(network: nn.Layer, own: weights.Weights, data: cfg.Data, classes: Sequence[str]) -> str:
    """A digest of what decides a teacher's answers, wherever it was read from: its weights, classes and preprocessing.

    `network` has the weights `own`; `data` and `classes` are the student's, which count where the weights do not say.
    What the config says of a teacher is compared as a part of it.
    """
    seen = {key: value for key, value in {**preprocessing.of(data), **own.preprocessing}.items() if key not in CUT}
    numbers = json.loads(json.dumps(seen), parse_int=float)
    parts = [json.dumps([own.classes or list(classes), numbers], sort_keys=True).encode()]
    for name, value in sorted(network.state_dict().items()):
        array = value.numpy()
        parts += [f"{name} {array.dtype} {array.shape}".encode(), array.tobytes()]
    return content_digest(parts)


def check(saved: Saved, teachers: Mapping[str, str], mode: cfg.Mode) -> list[str]:
    """A note if a checkpoint of an earlier version does not tell; `teachers` has the `digest` of each.

    Errors: CheckpointError for another teacher.
    """
    before = saved.state.teachers
    if teachers and not before:
        return [f"{saved.folder.name} is of an earlier version: whether its teachers are still the same is unknown"]
    if isinstance(mode, cfg.ClsTeacher):
        for name, one in mode.teachers.items():
            if teachers[name] != before.get(name):
                raise CheckpointError(_another(saved, cfg.key_of_teacher(name), one))
    return []


def _another(saved: Saved, key: str, teacher: cfg.Teacher) -> str:
    word = f"{key}.teacher_from={teacher.teacher_from}"
    if teacher.teacher_from is None and teacher.teacher:
        word = f"{key}.teacher.weights={teacher.teacher.weights}"
    return (
        f"{word} is not the teacher that {saved.folder} was trained with: its weights, its classes or how its images "
        "are preprocessed are others. Name that one, wherever it is now (of a run that was trained further, "
        f"{key}.teacher_from=RUN/checkpoints/step-…), or start a new run from these weights: checkpoint.init_from=RUN"
    )
