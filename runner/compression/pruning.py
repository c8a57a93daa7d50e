"""Pruning: which filters each convolution of a network loses, and what that saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import nn

from .. import config as cfg
from ..config.criteria import CRITERIA, Scores
from ..config.targets import load_target
from ..errors import ConfigError
from ..models import cost
from . import patterns, shapes, slim

#: Weight → part of its filters.
Ratios = dict[str, float]
#: Halvings of an interval in which a number is searched.
SEARCH_STEPS = 10


@dataclass
class Plan:
    """What pruning did to one network."""

    channels: dict[str, tuple[int, int]]
    """Convolution → filters before and after, of those that lost some."""
    macs: tuple[int, int]
    """MACs of one image before and after."""
    params: tuple[int, int]
    """Trainable parameters before and after."""
    whole: list[str] = field(default_factory=list)
    """Convolutions that should have lost some and did not: their channels are bound to what cannot be pruned."""

    def __str__(self) -> str:
        (macs, fewer_macs), (params, fewer_params) = self.macs, self.params
        return (
            f"{macs / 1e6:.2f} → {fewer_macs / 1e6:.2f} M MACs ({fewer_macs / macs - 1:+.1%}), "
            f"{params / 1e6:.3f} → {fewer_params / 1e6:.3f} M parameters ({fewer_params / params - 1:+.1%}), "
            f"{len(self.channels)} convolutions{self._whole()}"
        )

    def _whole(self) -> str:
        if not self.whole:
            return ""
        count, some = len(self.whole), ", ".join(self.whole[:2])
        return f"; {count} stay whole, such as {some}: their channels are bound to what cannot be pruned"

    def as_json(self) -> dict[str, Any]:
        """The plan as a checkpoint holds it."""
        return asdict(self)


def prune(
    network: nn.Layer, settings: cfg.Pruning, input_shape: tuple[int, int, int], accuracy: Callable[[], float]
) -> Plan:
    """Remove the filters of every convolution that its criterion scores lowest, by its ratio, in place.

    Convolutions whose outputs are added, or a depthwise one and the one before it, must keep the same channels: they
    lose the smallest of their ratios together. `accuracy` (top-1 of the network as it is) is asked by the sensitivity
    analysis only. Errors: ConfigError for a pattern that matches nothing, where nothing or not as much as was asked
    can be removed, where the network would lose outputs, and for a user-defined criterion that gives no scores.
    """
    before = (shapes.channels(network), cost.macs(network, input_shape), slim.parameters(network))
    for key, chosen in (("skip", settings.skip), ("ratios", settings.ratios)):
        patterns.check(f"compression.prune.{key}", chosen, before[0])
    pruner = slim.Pruner(network, input_shape, scores(settings))
    wanted = round((1 - (settings.macs_reduction or 0)) * before[1])
    if settings.macs_reduction is None:
        ratios = {weight: _ratio(members, settings) for weight, members in pruner.groups().items()}
        ratios = _rounded(ratios, before[0], settings)
    else:
        free = [weight for weight, members in pruner.groups().items() if not _is_skipped(members, settings)]
        if not pruner.fits(dict.fromkeys(free, 0.5), input_shape):
            free = [weight for weight in free if pruner.fits({weight: 0.5}, input_shape)]
        losses = pruner.sensitivities(free, accuracy) if free else {}
        ratios = _by_sensitivity(
            losses,
            wanted,
            lambda ratios: _rounded(ratios, before[0], settings),
            lambda ratios: pruner.macs(ratios, input_shape),
        )
    if ratios and not pruner.prune(ratios, input_shape):
        ratios = {weight: ratio for weight, ratio in ratios.items() if pruner.fits({weight: ratio}, input_shape)}
        if not pruner.prune(ratios, input_shape):
            raise ConfigError(
                f"compression.prune: {type(network).__name__} does not compute without filters that fall together. "
                "Skip some layers, compression.prune.skip=[NAME], or choose another model."
            )
    shapes.sync_attributes(network)
    after = (shapes.channels(network), cost.macs(network, input_shape), slim.parameters(network))
    # Quantized convolutions, among others, are passed over by PaddleSlim without a word.
    if after[2] >= before[2]:
        remedy = f"Raise compression.prune.ratio (it is {settings.ratio}), or skip fewer layers."
        if before[0] and not pruner.groups():
            remedy = (
                "Their channels are bound to what cannot be pruned, such as layer norms. Use compression=none or qat."
            )
        raise ConfigError(
            f"compression.prune takes nothing off {type(network).__name__}: of {len(before[0])} convolutions none "
            f"loses a filter. {remedy}"
        )
    if settings.macs_reduction is not None and after[1] > wanted:
        raise ConfigError(
            f"compression.prune.macs_reduction={settings.macs_reduction}: all that may be removed of "
            f"{type(network).__name__} is {1 - after[1] / before[1]:.1%} of its MACs. Lower it, or skip fewer layers."
        )
    channels = {name: (count, after[0][name]) for name, count in before[0].items() if count != after[0][name]}
    whole = [name for name in before[0] if name not in channels and _is_wanted(name, before[0], settings)]
    return Plan(channels, (before[1], after[1]), (before[2], after[2]), whole)


def _is_wanted(layer: str, filters: dict[str, int], settings: cfg.Pruning) -> bool:
    """Whether a layer should lose filters by its own ratio."""
    skipped = _is_skipped([layer], settings) or settings.macs_reduction is not None
    return not skipped and bool(_rounded({layer: _own_ratio(layer, settings)}, filters, settings))


def scores(settings: cfg.Pruning) -> Scores:
    """The criterion that the settings choose. Errors: ConfigError where a user-defined one is not found."""
    return _custom(settings.target, settings.kwargs) if settings.target else CRITERIA[settings.criterion]


def _custom(target: str, kwargs: dict[str, Any]) -> Scores:
    """User-defined scores. Errors, of the scores: ConfigError where they raise, or are not a number a filter."""
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
                f"{list(weight.shape)}: return {len(weight)} scores, one a filter, none of them NaN."
            )
        return values

    return scores


@paddle.no_grad()
def restore_statistics(network: nn.Layer, images: Iterable[paddle.Tensor]) -> None:
    """Measure the running statistics of normalisation layers anew: those of before fit sums over more channels.

    images: batches, each float32 [n, 3, S, S]. The statistics become the mean over them; nothing else changes, and
    nothing random is drawn. Li et al., EagleEye, ECCV 2020, show how much of a pruned network's accuracy that brings
    back.
    """
    norms = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, nn.layer.norm._BatchNormBase)]
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    momenta = [layer._momentum for layer in norms]
    network.eval()
    for layer in norms:
        layer.train()
    for number, batch in enumerate(images):
        for layer in norms:
            layer._momentum = number / (number + 1)
        network(batch)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer._momentum = momentum
    for layer, training in modes:
        layer.training = training


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")


def _ratio(weights: list[str], settings: cfg.Pruning) -> float:
    """The smallest ratio of a group of weights; none where one of them is skipped."""
    if _is_skipped(weights, settings):
        return 0.0
    return min(_own_ratio(_layer(weight), settings) for weight in weights)


def _is_skipped(weights: list[str], settings: cfg.Pruning) -> bool:
    return any(patterns.matches(_layer(weight), settings.skip) for weight in weights)


def _own_ratio(layer: str, settings: cfg.Pruning) -> float:
    ratio = settings.ratio
    for pattern, chosen in settings.ratios.items():
        if patterns.matches(layer, [pattern]):
            ratio = chosen
    return ratio


def _rounded(ratios: Ratios, filters: dict[str, int], settings: cfg.Pruning) -> Ratios:
    """The ratios at which a multiple of channels is left, at least one multiple of them; none where all are left."""
    multiple, rounded = settings.channel_multiple, {}
    for weight, ratio in ratios.items():
        if ratio <= 0:
            continue
        before = filters[_layer(weight)]
        left = max(multiple, round((1 - ratio) * before / multiple) * multiple)
        if left < before:
            rounded[weight] = 1 - left / before
    return rounded


def _by_sensitivity(
    losses: dict[str, dict[float, float]],
    wanted: int,
    rounded: Callable[[Ratios], Ratios],
    macs: Callable[[Ratios], int],
) -> Ratios:
    """Ratios that cost every weight alone the same part of the accuracy, so that at most `wanted` MACs are left.

    Where even the largest measured ratios leave more, those. Li et al., Pruning Filters for Efficient ConvNets, ICLR
    2017, prune by such curves.
    """

    def at(loss: float) -> Ratios:
        return rounded({weight: _largest_ratio(curve, loss) for weight, curve in losses.items()})

    def scaled(part: float) -> Ratios:
        return rounded({weight: part * ratio for weight, ratio in ratios.items()})

    ratios = at(_smallest(lambda loss: macs(at(loss)) <= wanted))
    # Accuracy on few images comes in steps, and the first may already take more than is wanted.
    return scaled(_smallest(lambda part: macs(scaled(part)) <= wanted))


def _smallest(holds: Callable[[float], bool]) -> float:
    """The smallest number from 0 to 1 for which something holds that holds for all larger ones; 1 if for none."""
    low, high = 0.0, 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _largest_ratio(curve: dict[float, float], loss: float) -> float:
    """The largest ratio that loses at most so much, between two measured ones by interpolation."""
    ratio, lost = 0.0, 0.0
    for next_ratio, next_lost in sorted(curve.items()):
        if next_lost > loss:
            return ratio + (next_ratio - ratio) * (loss - lost) / (next_lost - lost) if loss > lost else ratio
        ratio, lost = next_ratio, next_lost
    return ratio
