"""The networks of a finished run, as they were evaluated, without what only training needs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from .. import config as cfg
from .. import data, device, models, terminal
from ..checkpoints import fitting, reading, state, weights
from ..compression.effects import Decide
from ..config import store
from ..data import Normalize, Preparation, Split, identity, preparation
from ..deploy.picture_forms import Picture, prepared
from ..deploy.predict import probabilities
from ..errors import CheckpointError, ConfigError, DataError
from ..runs import result as results
from ..runs.journal import CONFIG, RESULT
from ..runs.result import Calibration
from ..training import seeding
from ..training.evaluation import Evaluation, Predictions, evaluate
from ..training.thresholds import USUAL
from . import initial
from .stage import Stage, accelerate, prepare, topk


@dataclass
class Measured:
    """An evaluation of the networks of a run."""

    evaluation: Evaluation
    images: str
    """A description of the images."""
    notes: list[str]
    """Notes for the user."""


def load_stage(directory: Path, config: cfg.Config, pointer: str, divide: bool = True) -> tuple[Stage, weights.Weights]:
    """Images and networks of a run, with the structure and weights of a checkpoint: `final`, `best` or `last`.

    Also returns the weights. `divide` as in `data.load`. Errors: DataError, CheckpointError.
    """
    chosen = weights.read(directory, pointer)
    stage = prepare(config, with_teacher=False, expected=_expected(directory, chosen), divide=divide)
    if unseen := stage.loaders.unseen:
        stage.notes.append(f"no image is of {data.listed(unseen)}: the numbers are of the other classes")
    fitting.restructure(stage.networks, stage.networks.trained, chosen, config.compression)
    fitting.initialize(stage.networks, stage.networks.trained, chosen, strict=True)
    accelerate(config, stage.networks)
    stage.notes += initial.unrecognised(chosen, store.read(directory / CONFIG).data, config.data, stage.loaders.source)
    return stage, chosen


def _expected(directory: Path, chosen: weights.Weights) -> data.ExpectedClasses | None:
    """The classes that the images may have."""
    return data.ExpectedClasses(chosen.classes, str(directory), data.ClassMismatch.subset) if chosen.classes else None


def evaluate_run(directory: Path, config: cfg.Config, split: str | None, pointer: str) -> Measured:
    """Evaluate every network of a run on `train`, `val`, `test` or `all` images.

    The default is the split of the run's final metrics (`test`, without one `val`), or all images if they are another
    set than the run's and have no splits. Errors: as in
    `load_stage`; ConfigError for a split that the data does not have, and of a user-defined metric.
    """
    divide = split != "all" and not (split is None and _is_another_set(directory, config, pointer))
    stage, own = load_stage(directory, config, pointer, divide)
    thresholds = own.thresholds
    stage.precision.decorate([stage.networks[name] for name in stage.networks.trained], [])
    source = stage.loaders.source
    whole = split == "all" or (source.is_undivided and not divide)
    chosen = list(source.splits) if whole else [split or stage.loaders.measured_on]
    if not set(chosen) <= set(source.splits):
        valid = " or ".join([*source.splits, "all"])
        raise ConfigError(
            f"{stage.about.place} has no {chosen[0]} split. Use --split {valid}, or hold images out: "
            "data.test_fraction=0.2 data.val_fraction=0.1"
        )
    batches = itertools.chain(*filter(None, map(stage.loaders.evaluation, chosen)))
    k = topk(config.train, len(stage.loaders.classes))
    metrics = config.metrics(stage.loaders.classes)
    evaluation = evaluate(stage.networks, batches, stage.precision, k, details=True, metrics=metrics, chosen=thresholds)
    images = f"{terminal.counted(evaluation.count, 'image')} of {stage.about.place}"
    images = f"all {images}" if whole else f"{images}, split {chosen[0]}"
    # The line about splits would be wrong for a set that is evaluated as a whole.
    about = [] if whole and source.is_undivided else stage.about.lines()[:1]
    notes = [*about, *stage.notes]
    if split != "train":
        notes += initial.leaks(own, source, stage.content, chosen)
    if split == "all" and own.trained_on is None and _is_where_it_was(directory, config):
        notes.append("the images that the run was trained on are among them")
    if config.data.many:
        where = "chosen on the validation split" if thresholds else "0.5, since nothing was validated"
        notes.append(f"thresholds of labels: {where}")
    return Measured(evaluation, images, notes)


def _is_where_it_was(directory: Path, config: cfg.Config) -> bool:
    """Whether the images are read from where the run was trained on them."""
    return initial.same_place(store.read(directory / CONFIG).data, config.data)


def _is_another_set(directory: Path, config: cfg.Config, pointer: str) -> bool:
    """Whether these are other images than the run was trained on, wherever those are now."""
    if _is_where_it_was(directory, config):
        return False
    chosen = weights.read(directory, pointer)
    try:
        now = identity.digests(data.load(config.data, _expected(directory, chosen)))
    except DataError:
        # Real errors are reported when the images are loaded for evaluation; a set too small to be split is not one.
        return True
    return now.get("train") != state.read(Path(chosen.origin)).splits.get("train")


def reference(
    directory: Path, config: cfg.Config, classes: int, name: str | None = None, pointer: str = "final"
) -> nn.Layer | None:
    """The float network that a quantized one (None: the deployed one) was made from, with `pointer`'s weights.

    After post-training quantization `best` is read whatever the pointer. None if it was not quantized, or if the float
    weights are missing.
    """
    if config.compression.quantize is None:
        return None
    # Calibration may have rounded the final weights (AdaRound).
    calibrated = isinstance(config.compression, cfg.Ptq)
    try:
        chosen = weights.read(directory, "best" if calibrated else pointer)
    except CheckpointError:
        return None
    return float_network(config, name or config.deploy.network, chosen, classes)


def float_network(config: cfg.Config, name: str, chosen: weights.Weights, classes: int) -> nn.Layer:
    """One network with stored weights and channels but without quantization, in eval mode.

    Random states are unaffected.
    """
    random_state = seeding.state()
    networks = models.Networks({name: models.build(cfg.model_of(config, name), classes, config.data.channels)})
    seeding.restore(random_state)
    plain, _ = fitting.translate(chosen.without_quantization(), networks, {name: cfg.model_of(config, name)})
    fitting.restructure(networks, (name,), plain, config.compression)
    fitting.initialize(networks, (name,), plain, strict=True)
    networks[name].eval()
    return networks[name]


@dataclass
class Tested:
    """One network of a run with its predictions for the images that the run was tested on."""

    classifier: Classifier
    split: Split
    predictions: Predictions
    stage: Stage


def on_test_images(directory: Path, config: cfg.Config, name: str, pointer: str) -> Tested:
    """One network of a run, with the weights of `final`, `best` or `last`, on its test images.

    Errors: as `load_stage`; ConfigError for a network that does not exist.
    """
    stage, own = load_stage(directory, config, pointer)
    thresholds = own.thresholds
    stage.notes += initial.leaks(own, stage.loaders.source, stage.content, [stage.loaders.measured_on])
    if name not in stage.networks.trained:
        raise ConfigError(f"{directory} has no network '{name}'. It has: {', '.join(stage.networks.trained)}")
    ready = _classifier(directory, config, name, stage.networks, stage.loaders.classes, thresholds)
    fitted = {} if ready.temperature is None else {name: ready.temperature}
    evaluation = evaluate(
        models.Networks({name: ready.network}), stage.loaders.test, stage.precision, 1, details=True, metrics=[],
        chosen=thresholds, temperatures=fitted,
    )  # fmt: skip
    return Tested(ready, stage.loaders.test.split, evaluation.predictions[name], stage)


@dataclass
class Classifier:
    """One network of a run, ready for pictures: `deploy.predict.answers` classifies any number of them."""

    network: nn.Layer
    """In eval mode."""
    classes: list[str]
    """Names of the classes, in the order of the logits."""
    normalize: Normalize
    preparation: Preparation
    """The preprocessing of a picture up to normalisation."""
    thresholds: np.ndarray | None = None
    """Multi-label: probability from which each label is predicted, float32 [K]; else None."""
    temperature: float | None = None
    """Divisor of the logits; None: 1."""
    unknown_below: float | None = None
    """Probability of the most probable class below which a picture is `unknown`; None: it never is."""
    concurrent: bool = False
    """Paddle's networks are called by one thread, which uses all cores."""

    def prepare(self, picture: Picture) -> np.ndarray:
        """The preprocessed picture, uint8 [H, W, C]. Errors: DataError for a file that is not a picture."""
        return prepared(picture, self.preparation)

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to probabilities, float32 [N, classes]."""
        with paddle.no_grad():
            images = self.normalize(batch, np.arange(len(batch)))
            logits = self.network(images).astype("float32").numpy()
        return probabilities(logits, self.thresholds is not None, self.temperature)


def classifier(directory: Path, config: cfg.Config, name: str, pointer: str = "final") -> Classifier:
    """One network of a run with the weights of `final`, `best` or `last`. Needs neither its data nor its teacher.

    Errors: CheckpointError; ConfigError for a network that the run does not have.
    """
    device.choose(config.train)
    chosen = weights.read(directory, pointer)
    saved = reading.verify(Path(chosen.origin)).state
    if name not in saved.networks:
        raise ConfigError(f"{directory} has no network '{name}'. It has: {', '.join(saved.networks)}")
    networks = models.Networks(
        {name: models.build(cfg.model_of(config, name), len(saved.classes), config.data.channels)}
    )
    own = {key: value for key, value in chosen.arrays.items() if key.startswith(f"{name}.")}
    own_weights = weights.Weights(chosen.origin, own, chosen.plan)
    fitting.restructure(networks, (name,), own_weights, config.compression)
    fitting.initialize(networks, (name,), own_weights, strict=True)
    accelerate(config, networks)
    return _classifier(directory, config, name, networks, saved.classes, chosen.thresholds)


def _classifier(
    directory: Path, config: cfg.Config, name: str, networks: models.Networks, classes: list[str],
    chosen: dict[str, list[float]],
) -> Classifier:  # fmt: skip
    """A network with its weights, temperature and, multi-label, thresholds."""
    networks[name].eval()
    thresholds = thresholds_of(chosen, name, len(classes)) if config.data.many else None
    result = results.read(directory / RESULT)
    # A run that has not finished has no calibration yet.
    calibration = (result.calibrations.get(name) if result else None) or Calibration()
    return Classifier(
        networks[name], classes, Normalize(config.data), preparation(config.data), thresholds,
        calibration.temperature, calibration.unknown_below,
    )  # fmt: skip


def thresholds_of(chosen: dict[str, list[float]], name: str, classes: int) -> np.ndarray:
    """Multi-label: a network's probabilities from which each label is predicted, float32 [classes]."""
    return np.array(chosen.get(name, [USUAL] * classes), dtype=np.float32)


def decisions(thresholds: np.ndarray | None) -> Decide:
    """Logits to predictions, with thresholds float32 [K] if multi-label."""

    def decide(logits: np.ndarray) -> np.ndarray:
        if thresholds is None:
            return logits.argmax(axis=1)
        return (probabilities(logits, many=True) >= thresholds).astype(np.uint8)

    return decide
