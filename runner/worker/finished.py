"""The networks of a run after training: as they were evaluated, without what only training needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .. import config as cfg
from .. import data, device, models
from ..checkpoints import checkpoint, weights
from ..config.monitor import metrics_of
from ..data import Normalize, Preparation, decode, preparation
from ..deploy.predict import Picture
from ..errors import CheckpointError, ConfigError
from ..training.evaluation import Evaluation, evaluate
from .stage import Stage, accelerate, prepare


def load_stage(directory: Path, config: cfg.Config, pointer: str) -> Stage:
    """Images and networks of a run, with the structure and the weights of a checkpoint: `final`, `best` or `last`.

    Errors: DataError, CheckpointError.
    """
    chosen = weights.read(directory, pointer)
    expected = (
        data.ExpectedClasses(chosen.classes, str(directory), data.ClassMismatch.subset) if chosen.classes else None
    )
    stage = prepare(config, with_teacher=False, expected=expected)
    if unseen := stage.loaders.unseen:
        stage.notes.append(f"no image is of {data.listed(unseen)}: what is measured is of the other classes")
    weights.restructure(stage.networks, stage.networks.trained, chosen, config.compression)
    weights.initialize(stage.networks, stage.networks.trained, chosen, strict=True)
    accelerate(config, stage.networks)
    return stage


def evaluate_run(directory: Path, config: cfg.Config, split: str, pointer: str) -> tuple[Evaluation, list[str]]:
    """Metrics and predictions of every network of a run on `train`, `val` or `test`, and what to know about them.

    Errors: as in `load_stage`; ConfigError for a split that the data does not have, and of a user-defined metric.
    """
    stage = load_stage(directory, config, pointer)
    stage.precision.decorate([stage.networks[name] for name in stage.networks.trained], [])
    batches = stage.loaders.evaluation(split)
    if batches is None:
        valid = " or ".join(stage.loaders.source.splits)
        raise ConfigError(
            f"The data has no {split} split. Use --split {valid}, or hold images out: data.val_fraction=0.1"
        )
    k = min(config.train.topk, len(stage.loaders.classes))
    metrics = metrics_of(config.train.metrics)
    evaluation = evaluate(stage.networks, batches, stage.precision, k, details=True, metrics=metrics)
    return evaluation, [stage.about.lines()[0], *stage.notes]


@dataclass
class Classifier:
    """One network of a run, ready for pictures: `deploy.predict.answers` classifies any number of them."""

    network: nn.Layer
    """In evaluation mode."""
    classes: list[str]
    """Names of the classes, in the order of the logits."""
    normalize: Normalize
    preparation: Preparation
    """How a picture becomes what is normalised."""
    concurrent: bool = False
    """Paddle's networks are called by one thread, which uses all cores."""

    def prepare(self, picture: Picture) -> np.ndarray:
        """uint8 [H, W, C]. Errors: DataError for what is no picture."""
        return decode(picture, self.preparation)

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to probabilities, float32 [N, classes]."""
        with paddle.no_grad():
            images = self.normalize(batch, np.arange(len(batch)))
            return F.softmax(self.network(images).astype("float32")).numpy()


def classifier(directory: Path, config: cfg.Config, name: str) -> Classifier:
    """What a run ended with of one network. Needs neither its data nor its teacher. Errors: CheckpointError."""
    device.choose(config.train, config.amp)
    chosen = weights.read(directory, "final")
    state = checkpoint.verify(Path(chosen.origin)).state
    if name not in state.networks:
        raise CheckpointError(f"{directory} has no network '{name}'. It has: {', '.join(state.networks)}")
    networks = models.Networks(
        {name: models.build(models.model_of(config, name), len(state.classes), config.data.channels)}
    )
    own = {key: value for key, value in chosen.arrays.items() if key.startswith(f"{name}.")}
    own_weights = weights.Weights(chosen.origin, own, chosen.plan)
    weights.restructure(networks, (name,), own_weights, config.compression)
    weights.initialize(networks, (name,), own_weights, strict=True)
    accelerate(config, networks)
    networks[name].eval()
    return Classifier(networks[name], state.classes, Normalize(config.data), preparation(config.data))
