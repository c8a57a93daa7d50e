"""The frozen network that `cls_teacher` learns from."""

from __future__ import annotations

from paddle import nn

from .. import config as cfg
from .. import models
from ..checkpoints import weights
from ..config import store
from ..errors import CheckpointError, ConfigError
from ..models import Networks
from ..runs.journal import CONFIG
from ..tracking import lookup


def read(mode: cfg.ClsTeacher, config: cfg.Config) -> tuple[weights.Weights, cfg.Config | None]:
    """The weights that the config names and, where they are of a run, its config. Errors: CheckpointError."""
    origin = lookup.local(mode.teacher_from, lookup.tracking_uri(config))
    return weights.read(origin), store.read(origin / CONFIG) if (origin / CONFIG).is_file() else None


def build(
    mode: cfg.ClsTeacher,
    config: cfg.Config,
    classes: int,
    notes: list[str],
    read: tuple[weights.Weights, cfg.Config | None],
) -> nn.Layer:
    """A network with the weights that were read. Errors: CheckpointError or ConfigError where they do not fit."""
    own_weights, run = read
    name, prefix = mode.teacher_network, f"{mode.teacher_network}."
    held = {key.partition(".")[0] for key in own_weights.arrays} & {"student", "student1"}
    if held and name not in held:
        raise CheckpointError(
            f"mode.teacher_network={name}: {own_weights.origin} has no such network. It has: {', '.join(sorted(held))}"
        )
    network = models.build(_model(mode, config, run), classes, config.data.channels)
    if held:
        chosen = {key: value for key, value in own_weights.arrays.items() if key.startswith(prefix)}
    else:
        chosen = {f"{prefix}{key}": value for key, value in own_weights.arrays.items()}
    teacher = weights.Weights(own_weights.origin, chosen, own_weights.plan)
    if run is None:
        # A file says nothing of bits and layers.
        teacher = teacher.without_quantization()
    stored_as = run.compression if run else cfg.NoCompression()
    weights.restructure(Networks({name: network}), (name,), teacher, stored_as)
    summary = weights.initialize(
        Networks({name: network}),
        (name,),
        teacher,
        strict=True,
        remedy="The teacher needs the architecture and classes it was trained with: model@mode.teacher=…",
    )
    notes.append(f"teacher: {summary}")
    return network


def _model(mode: cfg.ClsTeacher, config: cfg.Config, run: cfg.Config | None) -> cfg.Model:
    """The architecture that the config names, else that of the teacher's run, else the student's."""
    if mode.teacher is not None or run is None:
        return mode.teacher or config.model
    model = models.model_of(run, mode.teacher_network)
    if isinstance(model, cfg.CustomModel) and not mode.trust:
        raise ConfigError(
            f"{mode.teacher_from} was trained with a model of its own, {model.target}, which would be imported and "
            "called. If you trust whoever made that run: mode.trust=true"
        )
    return model
