"""Teachers, and students that look their logits up."""

from __future__ import annotations

import numpy as np

from runner.checkpoints import checkpoint
from runner.checkpoints.state import About
from runner.config import store
from runner.runs.journal import CONFIG
from runner.worker import distilling, experiment

ONCE = "mode.precompute_logits=true"
RUN = [
    "data.batch_size=6", "data.eval_batch_size=7", "train.epochs=2", "optimizer=momentum", "schedule.warmup_epochs=0",
    "train.log_every=1", "train.threads=1", "tracking=none", "model=mobilenet_v3_small_x0_35",
]  # fmt: skip
SET = ["data=synthetic", "data.train_images=24", "data.val_fraction=0.3", "data.test_images=8"]


def teach(directory, config, reverse=False):
    """Write the run of a teacher. Its weights are random, and its head's so large that images have different logits."""
    directory.mkdir()
    run = experiment.build(config)
    head = run.training.networks["student"].out.weight
    head.set_value(100 * head)
    classes = run.training.loaders.classes[:: -1 if reverse else 1]
    save(directory, run, classes=classes)
    store.write(config, directory / CONFIG)


def save(directory, run, seconds=0.0, classes=None):
    """Write a checkpoint of a run."""
    directory.mkdir(exist_ok=True)
    about = About(data="", classes=classes or run.training.loaders.classes, teachers=run.teachers)
    return checkpoint.save(directory, run.training, True, about, seconds)


def ready(config, saved=None, **options):
    """A run as it is when training begins."""
    run = experiment.build(config, saved, **options)
    distilling.precompute(run.config, run.training, run.notes)
    return run


def assert_apart(logits):
    """No row can be taken for another one. logits: float32 [N, classes]."""
    distances = np.abs(logits[:, None] - logits[None]).max(axis=2) + np.eye(len(logits))
    assert distances.min() > 1e-3
