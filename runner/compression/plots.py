"""Plots of compression: weights before and after rounding, filters before and after pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from paddle import nn

from ..terminal import counted
from . import slim, snr

#: Layers whose weights are drawn: those that rounding changed most.
SHOWN, BINS = 8, 81


def rounding(network: nn.Layer) -> Figure | None:
    """Histograms of the float weights and of the values that the integers stand for; None if not quantized.

    The layers with the lowest ratio of signal to quantization noise, 10·log₁₀(Σw² / Σ(w - ŵ)²) in dB (Nagel et al., A
    White Paper on Neural Network Quantization, 2021), the lowest first.
    """
    weights = {
        name: (layer.weight.numpy().ravel(), slim.rounded_weight(layer).numpy().ravel())
        for name, layer in slim.fake_quantized(network).items()
    }
    if not weights:
        return None
    noise = {name: snr.decibels(*snr.powers(before, after)) for name, (before, after) in weights.items()}
    chosen = sorted(noise, key=lambda name: noise[name])[:SHOWN]
    rows = -(-len(chosen) // 4)
    figure = Figure(figsize=(13, 2.9 * rows))
    panels = figure.subplots(rows, 4, squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for panel, name in zip(panels.flat, chosen, strict=False):
        before, after = weights[name]
        edges = np.linspace(before.min(), before.max(), BINS)
        panel.axis("on")
        panel.hist(before, edges, color="0.75", label="float")
        panel.hist(after, edges, histtype="step", color="tab:blue", label="integers × step")
        panel.set_yscale("log")
        panel.set_title(f"{name}\n{noise[name]:.1f} dB", fontsize=9)
        panel.tick_params(labelsize=8)
    panels.flat[0].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"weights before and after rounding: the {len(chosen)} of {counted(len(weights), 'layer')} with the most noise",
        y=1.0,
    )
    figure.tight_layout()
    return figure


def pruning(plan: Mapping[str, Any]) -> Figure:
    """Filters of every convolution before and after; `plan` is the result of `plan.PruningPlan.as_json`."""
    channels = plan["channels"]
    names = list(channels)
    before, after = (np.array([channels[name][place] for name in names]) for place in (0, 1))
    figure = Figure(figsize=(9, max(2.5, 0.2 * len(names) + 1)))
    panel = figure.subplots()
    places = np.arange(len(names))
    panel.barh(places, before, color="0.85", label="before")
    panel.barh(places, after, color="tab:blue", label="after")
    panel.set_yticks(places, names, fontsize=7)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.legend(frameon=False)
    (macs, fewer_macs), (params, fewer_params) = plan["macs"], plan["params"]
    panel.set(
        xlabel="filters",
        title=f"pruned: {fewer_macs / macs - 1:+.1%} MACs, {fewer_params / params - 1:+.1%} parameters",
    )
    return figure
