"""Scores the units of each group by the config's criterion: the lowest are removed first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..config.criteria import BN_SCALE, CRITERIA, CUSTOM, TAYLOR, Scores
from ..config.targets import load_target
from ..errors import ConfigError
from ..models.input_check import preserved
from .dependencies import Group

#: (images float32 [n, C, H, W], labels) of training batches.
Batches = Iterable[tuple[Tensor, Tensor]]
#: (logits, labels) → scalar.
Loss = Callable[[Tensor, Tensor], Tensor]


def can_be_scored(network: nn.Layer, group: Group, settings: cfg.Pruning) -> bool:
    """Whether the criterion can score the units of a group."""
    return settings.criterion != BN_SCALE or bool(scales(network) & {name for name, _ in group.cuts})


def of_units(
    network: nn.Layer, groups: Sequence[Group], settings: cfg.Pruning, batches: Callable[[], Batches], loss: Loss
) -> list[np.ndarray]:
    """Scores float64 [units] for each group; the network is restored afterwards.

    A unit has filters in several layers. Scores of weights are divided by the mean of their layer, then averaged (Fang
    et al., DepGraph, CVPR 2023); those of `bn_scale` and `taylor` are comparable between layers as they are. Errors:
    ConfigError for a user-defined criterion that gives no scores.
    """
    if settings.criterion == TAYLOR:
        return taylor(network, groups, batches(), loss)
    own = network.state_dict()
    if settings.criterion == BN_SCALE:
        norm_scales = scales(network)
        sizes = {name: abs(own[name].numpy()) for name in norm_scales}
        return [
            np.mean(
                [_summed(sizes[name], indices) for name, indices in _first_axis(group) if name in norm_scales], axis=0
            )
            for group in groups
        ]
    score = of_filters(settings)
    return [
        np.mean([_relative(_summed(score(own[f"{layer}.weight"].numpy()), group.cuts[f"{layer}.weight", 0]))
                 for layer in group.layers], axis=0)
        for group in groups
    ]  # fmt: skip


def check(network: nn.Layer, groups: Sequence[Group], settings: cfg.Pruning) -> None:
    """Errors: ConfigError for a user-defined criterion that is not found, or gives no scores of some layer."""
    if settings.criterion == CUSTOM:
        score, own = of_filters(settings), network.state_dict()
        for layer in dict.fromkeys(layer for group in groups for layer in group.layers):
            score(own[f"{layer}.weight"].numpy())


def scales(network: nn.Layer) -> set[str]:
    """Names of the weights γ of batch normalisation."""
    return {
        f"{name}.weight"
        for name, layer in network.named_sublayers(include_self=True)
        if isinstance(layer, nn.layer.norm._BatchNormBase) and layer.weight is not None
    }


def taylor(network: nn.Layer, groups: Sequence[Group], batches: Batches, loss: Loss) -> list[np.ndarray]:
    """Mean over batches of the squared first-order change of the loss when a unit's channels become zero.

    That change is the sum of w·∂L/∂w over the weights that read these channels: Σ a·∂L/∂a of their values a, since
    nothing else depends on those (Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, eq. 8,
    with a gate where a channel is read: before a normalisation it would change nothing). The network computes as in an
    evaluation; its modes, gradients and the random state are restored afterwards.
    """
    own = network.state_dict()
    parameters = {name: own[name] for group in groups for name, _ in group.readers}
    frozen = [parameter for parameter in parameters.values() if parameter.stop_gradient]
    sums = [np.zeros(group.units) for group in groups]
    count = 0
    try:
        with preserved(network):
            network.eval()
            for parameter in frozen:
                parameter.stop_gradient = False
            for images, labels in batches:
                gradients = paddle.grad(loss(network(images), labels), list(parameters.values()), allow_unused=True)
                change = {
                    name: paddle.zeros_like(value) if gradient is None else gradient * value
                    for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
                }
                for group, total in zip(groups, sums, strict=True):
                    parts = [_summed(_along(change[key[0]], key[1]), group.cuts[key]) for key in group.readers]
                    total += np.sum(parts, axis=0) ** 2
                count += 1
    finally:
        for parameter in frozen:
            parameter.stop_gradient = True
    return [total / max(1, count) for total in sums]


def _first_axis(group: Group) -> list[tuple[str, np.ndarray]]:
    return [(name, indices) for (name, axis), indices in group.cuts.items() if axis == 0]


def _along(values: Tensor, axis: int) -> np.ndarray:
    """Sums over all other axes."""
    others = [place for place in range(values.ndim) if place != axis]
    sums: np.ndarray = values.sum(others).numpy()
    return sums


def _summed(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """float64 [units]: sums of the values [channels] of each unit."""
    return values.astype(np.float64)[indices].sum(axis=1)


def _relative(scores: np.ndarray) -> np.ndarray:
    mean = np.abs(scores).mean()
    return scores / mean if mean > 0 and np.isfinite(mean) else scores


def of_filters(settings: cfg.Pruning) -> Scores:
    """The criterion of weights that the settings choose. Errors: ConfigError if a user-defined one is not found."""
    return _custom(settings.target, settings.kwargs) if settings.target else CRITERIA[settings.criterion]


def _custom(target: str, kwargs: dict[str, Any]) -> Scores:
    """User-defined scores. The scores raise ConfigError if the function raises, or does not return one number for each
    filter."""
    custom = load_target(target)

    def scores(weight: np.ndarray) -> np.ndarray:
        try:
            values = np.asarray(custom(weight.copy(), **kwargs), dtype=np.float64)
        except Exception as error:
            raise ConfigError(
                f"compression.prune.target={target} raised {type(error).__name__}: {error}. It is given a weight, "
                f"NumPy float32 {list(weight.shape)}, and kwargs={kwargs}."
            ) from error
        if values.shape != weight.shape[:1] or np.isnan(values).any():
            raise ConfigError(
                f"compression.prune.target={target} returned {list(values.shape)} numbers for a weight "
                f"{list(weight.shape)}: return {len(weight)} scores, one for each filter, none of them NaN."
            )
        return values

    return scores
