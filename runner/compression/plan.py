"""Inputs and result of pruning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import config as cfg
from . import importance


@dataclass
class Evidence:
    """Measurements that pruning needs, with images and on this machine."""

    accuracy: Callable[[], float]
    """The headline metric (top-1; mAP if multi-label) of the current network on validation images, or on training
    images without a validation split; for `allocation=sensitivity`."""
    batches: Callable[[], importance.Batches]
    """Training batches; for `criterion=taylor`."""
    loss: importance.Loss
    engine: Callable[[], Any]
    """Builds an engine of the current network; for `budget=latency`."""
    medians: Callable[[Sequence[Any]], list[float]]
    """Median milliseconds of an image in each of several engines, measured in turns."""


@dataclass
class PruningPlan:
    """What was pruned from one network so far."""

    channels: dict[str, tuple[int, int]]
    """Convolution → filters before and after, of those that lost some."""
    macs: tuple[int, int]
    """MACs of one image before and after."""
    params: tuple[int, int]
    """Parameters before and after."""
    whole: list[str] = field(default_factory=list)
    """Convolutions that should have lost filters, but whose channels are bound to what cannot be pruned."""
    filters: tuple[int, int] = (0, 0)
    """Filters of all convolutions before and after."""
    cuts: int = 0
    """Number of cuts so far."""
    latency: list[tuple[int, float]] = field(default_factory=list)
    """(MACs, milliseconds) of the network with decreasing numbers of filters, measured once."""
    ms: tuple[float, float] | None = None
    """Milliseconds of one image before the first cut and after the last; with `budget=latency`. Both are of the last
    cut, the former from the network before it by what the earlier ones saved."""

    def __str__(self) -> str:
        (macs, fewer_macs), (params, fewer_params) = self.macs, self.params
        return (
            f"{macs / 1e6:.2f} → {fewer_macs / 1e6:.2f} M MACs ({fewer_macs / macs - 1:+.1%}), "
            f"{params / 1e6:.3f} → {fewer_params / 1e6:.3f} M parameters ({fewer_params / params - 1:+.1%}), "
            f"{self._latency()}{len(self.channels)} convolutions{self._whole()}"
        )

    def _latency(self) -> str:
        if self.ms is None:
            return ""
        before, after = self.ms
        return f"{before:.3g} → {after:.3g} ms ({after / before - 1:+.1%}), "

    def _whole(self) -> str:
        if not self.whole:
            return ""
        count, some = len(self.whole), ", ".join(self.whole[:2])
        return f"; {count} are not pruned, such as {some}: their channels are bound to what cannot be pruned"

    def as_json(self) -> dict[str, Any]:
        """The plan as stored in checkpoints."""
        return asdict(self)


def grown(settings: cfg.Pruning, cuts: int) -> float:
    """The fraction of the whole reduction that is done after this many cuts, from 0 to 1.

    1 - (1 - cuts/parts)³ (Zhu & Gupta, To Prune, or Not to Prune, ICLR 2018 workshop, eq. 1), or linear.
    """
    done = cuts / settings.parts
    return 1 - (1 - done) ** 3 if settings.growth is cfg.Growth.cubic else done
