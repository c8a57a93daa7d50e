"""Chooses the bits of each layer's weight: by name, or by the sensitivity of the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from math import ceil

import numpy as np
import paddle
from paddle import Tensor, nn

from .. import config as cfg
from .. import terminal
from ..errors import ConfigError
from ..models.input_check import preserved
from . import patterns, ranges

#: Bits that are tried.
TRIED = (2, 3, 4, 5, 6, 7, 8)
#: Images that are computed at once.
TOGETHER = 64
#: The key that gives layers their bits by name.
BY_NAME = "compression.quantize.layer_bits"

Report = Callable[[str], None]


def by_name(settings: cfg.Quantization, names: list[str]) -> dict[str, int]:
    """Layer → bits of its weight from the config."""
    bits = dict.fromkeys(names, settings.weight_bits)
    for pattern, value in settings.layer_bits.items():
        bits |= {name: value for name in names if fnmatchcase(name, pattern)}
    return bits


def check(network: nn.Layer, settings: cfg.Quantization, names: list[str]) -> dict[str, int]:
    """`by_name`, but also with ConfigError if the layers named in `layer_bits` exceed the budget."""
    bits, budget = by_name(settings, names), settings.average_weight_bits
    if budget is not None:
        sizes = _sizes(network, names)
        fixed = [name for name in names if patterns.matches(name, settings.layer_bits)]
        least = sum(size * (bits[name] if name in fixed else TRIED[0]) for name, size in sizes.items())
        if least > budget * sum(sizes.values()):
            raise ConfigError(
                f"compression.quantize.average_weight_bits={budget:g}: with {BY_NAME} the layers have at least "
                f"{ceil(1000 * least / sum(sizes.values())) / 1000:g} bits on average. Raise it, or name fewer layers."
            )
    return bits


def _sizes(network: nn.Layer, names: list[str]) -> dict[str, int]:
    layers = dict(network.named_sublayers())
    return {name: layers[name].weight.size for name in names}


def chosen(
    network: nn.Layer,
    settings: cfg.Quantization,
    names: list[str],
    images: Iterable[Tensor],
    report: Report = lambda _text: None,
) -> dict[str, int]:
    """Layer → bits of its weight; with `average_weight_bits` those that change the logits least under that budget.

    The harm is the mean squared change of the logits when one layer alone has fewer bits, assumed independent of the
    other layers (Cai et al., ZeroQ, CVPR 2020). images: batches, each float32 [n, C, H, W], of which the first
    `sensitivity_images` images are used, all if there are fewer. The network does not change. Errors: ConfigError if
    the layers named in `layer_bits` exceed the budget.
    """
    bits = check(network, settings, names)
    if settings.average_weight_bits is None:
        return bits
    sizes = _sizes(network, names)
    free = [name for name in names if not patterns.matches(name, settings.layer_bits)]
    steps = [number for number in TRIED if number < settings.weight_bits] + [settings.weight_bits]
    some = ranges.first(images, settings.sensitivity_images)
    if (count := sum(map(len, some))) < settings.sensitivity_images:
        report(
            f"the sensitivity to fewer bits was measured on all {terminal.counted(count, 'training image')}: "
            f"compression.quantize.sensitivity_images={settings.sensitivity_images} asks for more"
        )
    harm = _harm(network, settings, free, steps, _whole(some))
    named = sum(sizes[name] * bits[name] for name in names if name not in free)
    bits |= allocate(sizes, harm, settings.average_weight_bits * sum(sizes.values()) - named)
    spent = sum(size * bits[name] for name, size in sizes.items())
    report(f"weight bits: {spent / sum(sizes.values()):.2f} on average, {_listed(bits)}")
    return bits


def allocate(sizes: Mapping[str, int], harm: Mapping[str, Mapping[int, float]], budget: float) -> dict[str, int]:
    """Layer → bits of its weight, of which all weights together have at most `budget`; no raise that fits it is left.

    sizes: number of weights of each layer; harm: for each layer bits that it may have, ascending → their harm, which
    does not grow. From the most bits of all, the layer with the least harm per bit saved loses some until the budget is
    kept. The last one to do so may be large, so that what it leaves is given back where it saves the most harm per bit.
    """
    bits = {name: max(curve) for name, curve in harm.items()}

    def price(name: str, other: int) -> float:
        """The difference in harm per bit between a layer's bits and others."""
        return (harm[name][other] - harm[name][bits[name]]) / (sizes[name] * (bits[name] - other))

    while (left := budget - sum(sizes[name] * own for name, own in bits.items())) < 0:
        fewer = {
            name: max(one for one in harm[name] if one < own) for name, own in bits.items() if own > min(harm[name])
        }
        # Of equal layers the first one, so that the bits are the same every time.
        cheapest = min(fewer, key=lambda name: price(name, fewer[name]))
        bits[cheapest] = fewer[cheapest]

    def raises() -> list[tuple[str, int]]:
        return [(name, more) for name in bits for more in harm[name] if 0 < sizes[name] * (more - bits[name]) <= left]

    while fitting := raises():
        best, more = max(fitting, key=lambda one: price(*one))
        left -= sizes[best] * (more - bits[best])
        bits[best] = more
    return bits


def _whole(batches: Iterable[Tensor]) -> list[Tensor]:
    """The same images in batches of at least `TOGETHER`, the last one excepted: small ones are slow."""
    parts: list[list[Tensor]] = [[]]
    for batch in batches:
        if sum(map(len, parts[-1])) >= TOGETHER:
            parts.append([])
        parts[-1].append(batch)
    return [paddle.concat(part) for part in parts]


def _harm(
    network: nn.Layer, settings: cfg.Quantization, names: list[str], steps: list[int], batches: list[Tensor]
) -> dict[str, dict[int, float]]:
    """Layer → number of bits → mean squared change of the logits, made monotone: more bits never harm more."""
    layers, harm = dict(network.named_sublayers()), {}
    with preserved(network), paddle.no_grad():
        network.eval()
        expected = [network(batch) for batch in batches]
        for number, name in enumerate(names):
            weight = layers[name].weight
            before = weight.numpy()
            axis = ranges.channel_axis(layers[name], settings)
            moved = []
            try:
                for bits in steps:
                    weight.set_value(ranges.rounded(before, ranges.of_weight(before, axis, bits, settings), axis, bits))
                    moved.append(_change(network, batches, expected))
            finally:
                weight.set_value(before)
            harm[name] = dict(zip(steps, np.maximum.accumulate(moved[::-1])[::-1].tolist(), strict=True))
            if number % 20 == 19:
                terminal.say(f"sensitivity to fewer bits: {number + 1} of {len(names)} layers")
    return harm


def _change(network: nn.Layer, batches: list[Tensor], expected: list[Tensor]) -> float:
    """Mean squared difference between a network's logits and expected ones, over all images."""
    differences = [network(batch) - logits for batch, logits in zip(batches, expected, strict=True)]
    means = [float(one.astype("float32").square().mean()) for one in differences]
    return float(np.average(means, weights=[len(batch) for batch in batches]))


def _listed(bits: dict[str, int]) -> str:
    """`3 bits × 5 layers, 8 bits × 2 layers`."""
    values = list(bits.values())
    return ", ".join(
        f"{value} bits × {terminal.counted(values.count(value), 'layer')}" for value in sorted(set(values))
    )
