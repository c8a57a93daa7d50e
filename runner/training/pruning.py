"""Gradual pruning: when networks are cut during training, and how optimizers, averages and processes follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..compression import shapes
from ..compression.shapes import Kept
from ..kernels.optimizer import AdamW
from ..models import Networks
from .optimizers import Optimization

if TYPE_CHECKING:
    from .state import Training


class GradualPruning(Protocol):
    """Prunes the networks of a run between its epochs, identically in all processes."""

    settings: cfg.Pruning

    @property
    def is_complete(self) -> bool:
        """Whether the last cut was made."""

    def is_due(self, epoch: int) -> bool:
        """Whether a cut is to be made before this epoch, counted from 0."""

    def cut(self, training: Training) -> str:
        """Make the next cut; returns a description of it. Errors: ConfigError where nothing can be cut."""


def follow(training: Training, name: str, kept: Kept) -> None:
    """Cut a network, together with its optimizer state, its averages and the buffers that processes exchange.

    The best result so far is forgotten, because a network of an earlier stage exceeds the budget; so are the validation
    scores that `schedule=plateau` uses.
    """
    cut = {f"{name}.{parameter}": axes for parameter, axes in kept.items()}
    for optimization in training.optimizations:
        _cut_state(optimization, cut)
    if training.ema:
        for parameter in cut.keys() & training.ema.averages.keys():
            average = training.ema.averages[parameter]
            shapes.put(average, shapes.taken(average.numpy(), cut[parameter]))
    shapes.cut(training.networks[name], kept)
    if training.average and name == "student":
        shapes.cut(training.networks["average"], kept)
    training.replicas.resized()
    progress = training.progress
    progress.best, progress.best_step, progress.waited, progress.scores = None, 0, 0, []
    training.follow()


def _cut_state(optimization: Optimization, cut: Kept) -> None:
    """Cut every accumulator that has its parameter's shape as the parameter is cut."""
    optimizer = optimization.optimizer
    masters = getattr(optimizer, "_master_weights", {})
    for name, parameter in optimization.parameters.items():
        if name not in cut:
            continue
        own = [accumulators.get(parameter.name) for accumulators in (*optimizer._accumulators.values(), masters)]
        for tensor in own:
            if tensor is not None and tensor.shape == parameter.shape:
                shapes.put(tensor, shapes.taken(tensor.numpy(), cut[name]))
    if isinstance(optimizer, AdamW):
        optimizer.forget()


def penalty(networks: Networks, pruner: GradualPruning) -> dict[str, Tensor]:
    """λ·Σ|γ| over the normalisation layers of each network, `sparsity/<network>` → scalar; 0 after the last cut.

    Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, eq. 1.
    """
    weight = 0.0 if pruner.is_complete else pruner.settings.sparsity
    terms = {}
    for name in networks.trained:
        if scales := list(_scales(networks[name])):
            terms[f"sparsity/{name}"] = weight * paddle.concat([scale.abs() for scale in scales]).sum()
    return terms


@paddle.no_grad()
def shrink_scales(optimization: Optimization, networks: Networks, pruner: GradualPruning, rate: float) -> None:
    """γ ← sign(γ)·max(|γ| - rate·λ, 0): the proximal step of that penalty, independent of the optimizer.

    Parikh and Boyd, Proximal Algorithms, 2014, section 6.5.2.
    """
    if pruner.is_complete or not pruner.settings.sparsity:
        return
    for name in optimization.networks:
        for scale in _scales(networks[name]):
            left = paddle.clip(scale.abs() - rate * pruner.settings.sparsity, min=0.0)
            paddle.assign(scale.sign() * left, scale)


def _scales(network: nn.Layer) -> Iterator[Tensor]:
    for layer in network.sublayers(include_self=True):
        is_norm = isinstance(layer, nn.layer.norm._BatchNormBase)
        if is_norm and layer.weight is not None and not layer.weight.stop_gradient:
            yield layer.weight
