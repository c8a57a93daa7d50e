"""What compression did to a network: decisions that the integers of each layer change, channels that went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ..models.input_check import preserved
from . import slim, snr

#: Logits, float32 [N, K], to decisions: int64 [N], or of many labels uint8 [N, K].
Decide = Callable[[np.ndarray], np.ndarray]


@dataclass
class LayerEffect:
    """What the integers of one layer do."""

    name: str
    bits: tuple[int, int]
    """Of its weight and of its activation."""
    alone: int
    """Decisions that change when it alone computes with integers."""
    restored: int
    """Decisions that change when it alone computes with floats."""
    own_noise: float | None = None
    """Signal to quantization noise of its output for the float network's input, in dB; None: not known, or no noise."""
    noise: float | None = None
    """The same with integers in the layers before it as well."""


@dataclass
class Rounded:
    """What fake quantization changes."""

    changed: int
    """Decisions that all integers together change."""
    right: tuple[int, int] | None
    """How many are right in floats and in integers."""
    layers: list[LayerEffect]
    """The layer that changes the most decisions first."""


@dataclass
class Pruned:
    """What pruning took away."""

    channels: dict[str, tuple[int, int]]
    """Convolution → filters before and after."""
    macs: tuple[int, int]
    params: tuple[int, int]
    origin: str = ""
    """The network that it was pruned from, where there still is one to compare with."""
    changed: int | None = None
    """Decisions that differ from those of that network."""
    right: tuple[int, int] | None = None
    """How many are right in that network and in this one."""
    noise: float | None = None
    """Ratio of its logits to their change, in dB."""

    @property
    def layers(self) -> list[tuple[str, int, int]]:
        """(convolution, filters before, after), the one that lost the largest part first."""
        listed = [(name, before, after) for name, (before, after) in self.channels.items()]
        return sorted(listed, key=lambda one: one[2] / one[1])


@dataclass
class Effects:
    """What compression did to a network, measured on some images."""

    images: int
    split: str
    """Which images they are."""
    rounded: Rounded | None = None
    pruned: Pruned | None = None
    notes: list[str] = field(default_factory=list)


def of_integers(
    network: nn.Layer, batches: Sequence[Tensor], decide: Decide, labels: np.ndarray,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> Rounded:  # fmt: skip
    """Compare a fake-quantized network with itself in floats, as a whole and a layer at a time.

    In floats a layer neither rounds nor bounds its input and weight; a learnt clip (PACT) stays, for it is part of
    what was trained. batches: images float32 [n, C, H, W]; labels: of all of them; `tell` is told of each layer. In
    eval mode; the network is afterwards as before.
    """
    layers = slim.fake_quantized(network)
    with preserved(network), paddle.no_grad():
        network.eval()
        integers = decide(_logits(network, batches))
        with slim.in_float(layers.values()):
            floats = decide(_logits(network, batches))
        effects = []
        for number, (name, layer) in enumerate(layers.items(), start=1):
            others = [one for one in layers.values() if one is not layer]
            with slim.in_float(others):
                alone = decide(_logits(network, batches))
            with slim.in_float([layer]):
                restored = decide(_logits(network, batches))
            counts = changed(alone, floats), changed(restored, integers)
            effects.append(LayerEffect(name, slim.bits(layer), *counts))
            tell(number, len(layers))
    effects.sort(key=lambda one: (-one.alone, -one.restored))
    right = tuple(len(labels) - changed(one, labels) for one in (floats, integers))
    return Rounded(changed(integers, floats), right, effects)  # type: ignore[arg-type]


def of_pruning(
    plan: dict[str, Any], network: nn.Layer, origin: tuple[str, nn.Layer] | None, batches: Sequence[Tensor],
    decide: Decide, labels: np.ndarray,
) -> Pruned:  # fmt: skip
    """What a plan, `pruning.Plan` as JSON, took away; compared with the network that was pruned, if that is there.

    Both networks compute in floats: integers that came later are no effect of pruning.
    """
    channels = {name: (int(before), int(after)) for name, (before, after) in plan["channels"].items()}
    pruned = Pruned(channels, tuple(plan["macs"]), tuple(plan["params"]))
    if origin:
        with preserved(network), preserved(origin[1]), paddle.no_grad():
            network.eval(), origin[1].eval()
            before = _logits(origin[1], batches)
            with slim.in_float(slim.fake_quantized(network).values()):
                after = _logits(network, batches)
        pruned.origin, pruned.noise = origin[0], snr.decibels(*snr.powers(before, after))
        pruned.changed = changed(decide(after), decide(before))
        pruned.right = len(labels) - changed(decide(before), labels), len(labels) - changed(decide(after), labels)
    return pruned


def changed(decisions: np.ndarray, others: np.ndarray) -> int:
    """How many images have another decision; with many labels, one of them is enough."""
    differ = decisions != others
    return int((differ.any(axis=1) if differ.ndim == 2 else differ).sum())


def _logits(network: nn.Layer, batches: Iterable[Tensor]) -> np.ndarray:
    return np.concatenate([network(batch).astype("float32").numpy() for batch in batches])
