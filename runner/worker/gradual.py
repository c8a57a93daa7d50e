"""Gradual pruning of a run: the first process chooses the cuts, all processes make them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from paddle import nn

from .. import compression
from .. import config as cfg
from ..compression import pruning, shapes, statistics
from ..compression.pruning import PruningPlan
from ..compression.shapes import Kept
from ..errors import ConfigError
from ..kernels.autotune import autotuning_off
from ..models import macs
from ..runs.protocol import Heartbeat
from ..terminal import counted
from ..training import pruning as following
from ..training import seeding
from ..training.state import Training
from .compress import STATISTICS_BATCHES, calibration_images, evidence
from .stage import Stage


@dataclass
class Gradual:
    """The cuts of a run (`training.pruning.GradualPruning`)."""

    config: cfg.Config
    settings: cfg.Pruning
    stage: Stage
    plans: dict[str, Any]
    """Network → its `PruningPlan` as JSON; shared with the run, whose checkpoints store it."""
    costs: dict[str, dict[str, float]]
    """Network → its costs; shared with the run."""

    @property
    def is_complete(self) -> bool:
        """Whether the last cut was made."""
        return self._cuts >= self.settings.parts

    @property
    def _cuts(self) -> int:
        return min(self.plans[name]["cuts"] for name in self.stage.networks.trained)

    def is_due(self, epoch: int) -> bool:
        """Whether a cut is to be made before this epoch."""
        begin, every = self.settings.begin_epoch or 0, self.settings.every_epochs
        # With `debug.fast_dev_run` all cuts are made at once, so that its two steps show whether everything fits.
        reached = self.config.debug.fast_dev_run or epoch >= begin + self._cuts * every
        return not self.is_complete and reached

    def cut(self, training: Training) -> str:
        """Cut every network once more; returns a description of what remains of each."""
        texts: list[str] = []
        with autotuning_off(), Heartbeat().beating():
            for name in training.networks.trained:
                reported: list[str] = []
                plan = self._cut(training, name, reported.append)
                texts += [f"{name}: {text}" for text in (*reported, plan)]
        return f"pruned ({self._cuts} of {self.settings.parts}) {'; '.join(texts)}"

    def _cut(self, training: Training, name: str, report: Callable[[str], None]) -> PruningPlan:
        network, ranks, shape = training.networks[name], training.ranks, self.config.data.input_shape

        def choose() -> tuple[Kept, dict[str, Any]]:
            facts = evidence(self.config, self.stage, name)
            # Only this process computes scores, and a user-defined criterion may draw random numbers.
            random_state = seeding.state()
            before = PruningPlan(**self.plans[name])
            # A refusal would lose the training so far.
            kept, plan = pruning.choose_cut(network, self.settings, shape, facts, before, report=report)
            seeding.restore(random_state)
            return kept, plan.as_json()

        kept, self.plans[name] = ranks.broadcast_from_first(choose)
        following.follow(training, name, kept)
        untouched = {
            layer
            for layer in statistics.normalisations(network)
            if training.freezing.has(f"{name}.{layer}._mean") and f"{layer}._mean" not in kept
        }
        self._measure_statistics(training, name, untouched)
        own = self.costs[name]
        own |= {"params": float(compression.slim.parameters(network)), "macs": float(macs(network, shape))}
        if "trainable_params" in own:
            own["trainable_params"] = float(compression.slim.parameters(network, trainable=True))
        return PruningPlan(**self.plans[name])

    def _measure_statistics(self, training: Training, name: str, untouched: Collection[str]) -> None:
        """Re-estimate the normalisation statistics of a network and of its averages, as after pruning before training.

        All processes do, since synchronised layers wait for each other's batches. `untouched`: frozen layers that were
        not cut.
        """
        network = training.networks[name]
        shapes.replace(network, self._measured(training, network, untouched))
        if training.ema:
            with training.ema.applied():
                averaged = self._measured(training, network, untouched)
            for key, value in averaged.items():
                shapes.put(training.ema.averages[f"{name}.{key}"], value)
        if training.average and name == "student":
            teacher = training.networks["average"]
            shapes.replace(teacher, self._measured(training, teacher, untouched))

    def _measured(self, training: Training, network: nn.Layer, untouched: Collection[str]) -> dict[str, np.ndarray]:
        """The normalisation statistics of a network with its current weights, identical in all processes."""
        statistics.restore(network, calibration_images(training.loaders, STATISTICS_BATCHES), untouched)

        def measured() -> dict[str, np.ndarray]:
            own = network.state_dict().items()
            return {key: value.numpy() for key, value in own if key.endswith(("._mean", "._variance"))}

        # Different machines may differ in the last bit.
        return training.ranks.broadcast_from_first(measured)


def begin(
    config: cfg.Config, stage: Stage, plans: dict[str, Any], costs: dict[str, dict[str, float]]
) -> Gradual | None:
    """The cuts that are still to be made; None if all pruning is done before training."""
    settings = config.compression.prune
    if settings is None or settings.begin_epoch is None:
        return None
    return Gradual(config, settings, stage, plans, costs)


def check_length(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    """Errors: ConfigError if the run ends before the last cut."""
    settings = config.compression.prune
    if settings is None or settings.begin_epoch is None or not steps:
        return
    last = settings.begin_epoch + (settings.parts - 1) * settings.every_epochs
    if steps <= last * steps_per_epoch:
        raise ConfigError(
            f"compression.prune: the last cut is before epoch {last}, and the run of {counted(steps, 'step')} "
            f"({steps_per_epoch} an epoch) ends before it. Train longer, or cut earlier "
            "(begin_epoch, parts, every_epochs)."
        )
