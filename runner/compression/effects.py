"""The effect of compression on a network: predictions that each layer's quantization changes, removed channels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ..models.input_check import preserved
from . import slim, snr
from .floats import Floats

#: Values that differ by less than this part of the largest one are the same.
CONSTANT = 1e-6
#: Logits, float32 [N, K], to predictions: int64 [N], or multi-label uint8 [N, K].
Decide = Callable[[np.ndarray], np.ndarray]


@dataclass
class Origin:
    """The network that a pruned one was made from."""

    name: str
    """The run or file that it comes from."""
    network: nn.Layer
    """In floats."""
    decide: Decide
    """Its predictions: with many labels it may have other thresholds."""


@dataclass
class LayerEffect:
    """The effect of quantizing one layer."""

    name: str
    bits: tuple[int, int]
    """Bits of its weight and of its activation."""
    alone: int | None
    """Predictions that change when it alone computes with integers; None: the float weights are missing."""
    restored: int | None
    """Predictions that change when it alone computes with floats; None as above."""
    own_noise: float | None = None
    """Signal to quantization noise of its output for the float network's input, in dB; None: not known, or no noise."""
    noise: float | None = None
    """The same with integers in the layers before it as well."""


@dataclass
class Rounded:
    """The effect of fake quantization."""

    changed: int | None
    """Predictions that quantizing all layers changes; None: the float weights are missing."""
    right: tuple[int | None, int]
    """Correct predictions in floats, None as above, and in integers."""
    layers: list[LayerEffect]
    """The layer that changes the most decisions first."""


@dataclass
class Pruned:
    """The effect of pruning."""

    channels: dict[str, tuple[int, int]]
    """Convolution → filters before and after."""
    macs: tuple[int, int]
    params: tuple[int, int]
    origin: str = ""
    """The network that it was pruned from, if it still exists."""
    changed: int | None = None
    """Predictions that differ from that network's."""
    right: tuple[int, int] | None = None
    """Correct predictions of that network and of this one."""
    noise: float | None = None
    """Ratio of its logits to their change, in dB."""
    similarity: dict[str, float] = field(default_factory=dict)
    """Convolution → `similarity` of what it gives now to what it gave in that network."""

    @property
    def layers(self) -> list[tuple[str, int, int, float | None]]:
        """(convolution, filters before, after, similarity), by the fraction lost, the largest first."""
        listed = [(name, before, after, self.similarity.get(name)) for name, (before, after) in self.channels.items()]
        return sorted(listed, key=lambda one: one[2] / one[1])


@dataclass
class Effects:
    """The effect of compression on a network, measured on some images."""

    images: int
    split: str
    """The images' split."""
    rounded: Rounded | None = None
    pruned: Pruned | None = None
    notes: list[str] = field(default_factory=list)


def of_integers(
    network: nn.Layer, floats: Floats | None, batches: Sequence[Tensor], decide: Decide, labels: np.ndarray,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> Rounded:  # fmt: skip
    """Compare a fake-quantized network with itself in floats, as a whole and a layer at a time.

    `floats` puts its layers in floats; None: their float weights are missing, and nothing is compared with them.
    batches: images float32 [n, C, H, W]; labels: of all of them; `tell` is called for each layer. In eval mode; the
    network is restored afterwards.
    """
    layers = slim.fake_quantized(network)

    def decisions(*in_floats: str) -> np.ndarray:
        assert floats
        with floats.within(in_floats):
            return decide(_logits(network, batches))

    with preserved(network), paddle.no_grad():
        network.eval()
        integers = decide(_logits(network, batches))
        right = len(labels) - changed(integers, labels)
        if floats is None:
            unknown = [LayerEffect(name, slim.bits(layer), None, None) for name, layer in layers.items()]
            return Rounded(None, (None, right), unknown)
        plain = decisions(*layers)
        effects = []
        for number, (name, layer) in enumerate(layers.items(), start=1):
            alone = changed(decisions(*(one for one in layers if one != name)), plain)
            restored = changed(decisions(name), integers)
            effects.append(((-alone, -restored), LayerEffect(name, slim.bits(layer), alone, restored)))
            tell(number, len(layers))
    effects.sort(key=lambda pair: pair[0])
    right_in_floats = len(labels) - changed(plain, labels)
    return Rounded(changed(integers, plain), (right_in_floats, right), [effect for _, effect in effects])


def of_pruning(
    plan: dict[str, Any], network: nn.Layer, floats: Floats | None, origin: Origin | None,
    batches: Sequence[Tensor], decide: Decide, labels: np.ndarray,
) -> Pruned:  # fmt: skip
    """The effect of a plan, `plan.PruningPlan` as JSON; compared with the unpruned network, if that exists.

    Both networks compute in floats: later quantization is not an effect of pruning. `floats` as in `of_integers`. Maps
    have to be [N, C, H, W], as Paddle's layers give them.
    """
    channels = {name: (int(before), int(after)) for name, (before, after) in plan["channels"].items()}
    pruned = Pruned(channels, tuple(plan["macs"]), tuple(plan["params"]))
    if origin and floats:
        with preserved(network), preserved(origin.network), paddle.no_grad():
            network.eval(), origin.network.eval()
            with _means(origin.network, channels) as means_before:
                before = _logits(origin.network, batches)
            with floats.within(floats.layers), _means(network, channels) as means:
                after = _logits(network, batches)
        both = [name for name in channels if name in means and name in means_before]
        pruned.similarity = {
            name: similarity(np.concatenate(means_before[name]), np.concatenate(means[name])) for name in both
        }
        pruned.origin, pruned.noise = origin.name, snr.decibels(*snr.powers(before, after))
        decided = origin.decide(before), decide(after)
        pruned.changed = changed(*decided)
        pruned.right = len(labels) - changed(decided[0], labels), len(labels) - changed(decided[1], labels)
    return pruned


def similarity(before: np.ndarray, after: np.ndarray) -> float:
    """Linear CKA of two layers' outputs for the same images, float [N, p] and [N, q]: at most 1, and about 0 by chance.

    1: one is the other, turned and scaled, whatever the number of channels (Kornblith et al., Similarity of Neural
    Network Representations Revisited, ICML 2019), with the estimator of HSIC that few images do not bias (Song et al.,
    Feature Selection via Dependence Maximization, JMLR 2012, eq. 5). NaN of fewer than four images, or where a layer
    gives the same for all of them.
    """
    x, y = (np.asarray(one, np.float64) - np.mean(one, axis=0, dtype=np.float64) for one in (before, after))
    if len(x) < 4 or any(np.abs(one).max() <= CONSTANT * np.abs(own).max() for one, own in ((x, before), (y, after))):
        return math.nan
    scale = _hsic(x, x) * _hsic(y, y)
    return float(_hsic(x, y) / math.sqrt(scale)) if scale > 0 else math.nan


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased Hilbert-Schmidt independence criterion of [N, p] and [N, q], with linear kernels."""
    grams = [one @ one.T for one in (x, y)]
    for gram in grams:
        np.fill_diagonal(gram, 0.0)
    (one, other), n = grams, len(x)
    mixed = one.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * (one.sum(0) @ other.sum(0)) / (n - 2)
    return float(((one * other).sum() + mixed) / (n * (n - 3)))


@contextlib.contextmanager
def _means(network: nn.Layer, names: Iterable[str]) -> Iterator[dict[str, list[np.ndarray]]]:
    """Within the context each layer of these names appends the means of its maps, float32 [n, C]."""
    means: dict[str, list[np.ndarray]] = {}

    def kept(name: str) -> Callable[[nn.Layer, Any, Tensor], None]:
        def keep(_layer: nn.Layer, _inputs: Any, maps: Tensor) -> None:
            means.setdefault(name, []).append(maps.astype("float32").flatten(2).mean(2).numpy())

        return keep

    wanted = set(names)
    hooks = [
        layer.register_forward_post_hook(kept(name)) for name, layer in network.named_sublayers() if name in wanted
    ]
    try:
        yield means
    finally:
        for hook in hooks:
            hook.remove()


def changed(decisions: np.ndarray, others: np.ndarray) -> int:
    """Number of images whose prediction differs; multi-label: in at least one label."""
    differ = decisions != others
    return int((differ.any(axis=1) if differ.ndim == 2 else differ).sum())


def _logits(network: nn.Layer, batches: Iterable[Tensor]) -> np.ndarray:
    return np.concatenate([network(batch).astype("float32").numpy() for batch in batches])
