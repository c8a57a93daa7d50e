"""AdaRound: whether each weight is rounded up or down is learnt (Nagel et al., Up or Down?, ICML 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from .. import config as cfg
from .. import terminal
from . import side_by_side, slim
from .bits import Report
from .rounding import levels_of

#: Limits of the stretched sigmoid, h = clip(σ(V) · (ζ - γ) + γ, 0, 1).
ZETA, GAMMA = 1.1, -0.1
#: Share of the iterations without regularization; the range in which its exponent β decreases in the others.
WARM_UP, BETA = 0.2, (20.0, 2.0)
#: Rows in a step; most values kept of a layer's inputs, which bounds memory at 64 MB.
BATCH, MOST = 256, 1 << 24
#: Images per forward pass.
IMAGES = 32
#: Weights at a time: some 64 KB of each array.
BLOCK = 1 << 14


def round_weights(
    network: nn.Layer, reference: nn.Layer, settings: cfg.AdaRound, images: Sequence[Tensor], seed: int, report: Report
) -> None:
    """Round the weights of every quantized layer, in place and layer by layer, so as to preserve its outputs.

    Each layer is fitted to its outputs in the float network `reference`, while its inputs come from the layers before
    it, which are already rounded. images: batches, each float32 [n, C, H, W]; layers compute in [N, C, H, W]. The
    weight of a layer that this does not improve stays float, and is rounded to nearest in the forward pass. The same
    seed gives the same weights.
    """
    float_layers, layers = dict(reference.named_sublayers()), slim.fake_quantized(network)
    better = 0
    for number, name in enumerate(side_by_side.in_order(network, layers, images[0][:1])):
        layer = layers[name]
        rows = _rows(network, layer, reference, float_layers[name], settings.rows, images, seed + number)
        weight = _rounded(layer, rows, settings, seed + number) if rows else None
        if weight is not None:
            layer.weight.set_value(weight)
            better += 1
        if number % 10 == 9:
            terminal.say(f"AdaRound: {number + 1} of {len(layers)} layers")
    every, have = terminal.counted(len(layers), "layer"), terminal.word_for(len(layers), "has", "have")
    report(f"AdaRound: {better} of {every} {have} a smaller error than with rounding to nearest")


@dataclass
class _Rows:
    """A layer as a matrix product: G groups with k weights for each of O / G outputs."""

    inputs: Tensor
    """float32 [G, rows, k]."""
    outputs: Tensor
    """float32 [G, rows, O / G], without the bias."""


def _rows(
    network: nn.Layer, layer: slim.FakeQuantized, reference: nn.Layer, float_layer: nn.Layer, count: int,
    images: Sequence[Tensor], seed: int,
) -> _Rows | None:  # fmt: skip
    """Some positions of a layer's output with their inputs; None for a padding that cannot be unfolded."""
    generator = np.random.default_rng(seed)
    groups = 1 if layer.weight.ndim == 2 else layer._groups
    values = layer.weight.size // layer.weight.shape[1 if layer.weight.ndim == 2 else 0] * groups
    parts = [part for batch in images for part in batch.split(_sections(len(batch)))]
    each = max(1, min(count, MOST // values) // len(parts))
    inputs, outputs = [], []
    for part in parts:
        rounded = side_by_side.output(network, layer._fake_quant_input, part)
        wanted = side_by_side.output(reference, float_layer, part)
        if layer.weight.ndim == 2:
            matrix, wanted = rounded.reshape([-1, layer.weight.shape[0]]), wanted.reshape([-1, layer.weight.shape[1]])
        else:
            columns = _unfolded(layer, rounded)
            if columns is None:
                return None
            matrix = columns.transpose([0, 2, 1]).reshape([-1, columns.shape[1]])
            wanted = wanted.transpose([0, 2, 3, 1]).reshape([-1, layer.weight.shape[0]])
        if float_layer.bias is not None:
            wanted = wanted - float_layer.bias.detach()
        chosen = paddle.to_tensor(generator.permutation(len(matrix))[:each])
        inputs.append(matrix.index_select(chosen))
        outputs.append(wanted.index_select(chosen))
    return _Rows(_grouped(paddle.concat(inputs), groups), _grouped(paddle.concat(outputs), groups))


def _sections(count: int) -> list[int]:
    return [min(IMAGES, count - begin) for begin in range(0, count, IMAGES)]


def _grouped(rows: Tensor, groups: int) -> Tensor:
    # Rows are drawn from it at every step: of a view each draw would copy everything.
    return rows.reshape([len(rows), groups, -1]).transpose([1, 0, 2]).contiguous()


def _unfolded(layer: slim.FakeQuantized, x: Tensor) -> Tensor | None:
    """float32 [N, C · k · k, places]."""
    kernel, stride, dilation = layer.weight.shape[2:], _pair(layer._stride), _pair(layer._dilation)
    padding = layer._padding
    if padding == "SAME":
        # Paddle ignores the dilation then.
        sides, dilation = [], (1, 1)
        for size, own, step in zip(x.shape[2:], kernel, stride, strict=True):
            total = max((math.ceil(size / step) - 1) * step + own - size, 0)
            sides.append((total // 2, total - total // 2))
        (top, bottom), (left, right) = sides
        x, padding = F.pad(x, [left, right, top, bottom]), 0
    if padding == "VALID":
        padding = 0
    is_plain = isinstance(padding, int) or (len(padding) == 2 and all(isinstance(side, int) for side in padding))
    if not is_plain or layer._padding_mode != "zeros" or layer._data_format != "NCHW":
        return None
    return F.unfold(x, list(kernel), list(stride), list(_pair(padding)), list(dilation))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@paddle.no_grad()
def _rounded(layer: slim.FakeQuantized, rows: _Rows, settings: cfg.AdaRound, seed: int) -> Tensor | None:
    """The weight on its grid; None if no rounding better than to nearest was found."""
    linear = layer.weight.ndim == 2
    weight = layer.weight.transpose([1, 0]) if linear else layer.weight
    groups, per_group = rows.inputs.shape[0], rows.outputs.shape[2]
    shape = [groups, per_group, -1]
    levels = levels_of(slim.bits(layer)[0])
    magnitudes = np.broadcast_to(slim.weight_ranges(layer), [weight.shape[0]]) / np.float32(levels)
    steps = paddle.to_tensor(np.ascontiguousarray(magnitudes, np.float32)).reshape([groups, per_group, 1])
    scaled = weight.reshape(shape) / steps
    floor = scaled.floor()
    learnt = _learnt(scaled, floor, steps, levels, rows, settings, seed)
    candidates = [(floor + learnt).clip(-levels, levels), scaled.round().clip(-levels, levels)]
    ours, nearest = (
        float((paddle.matmul(rows.inputs, one * steps, transpose_y=True) - rows.outputs).square().mean())
        for one in candidates
    )
    if ours >= nearest:
        return None
    result = (candidates[0] * steps).reshape(weight.shape)
    return result.transpose([1, 0]) if linear else result


def _learnt(
    scaled: Tensor, floor: Tensor, steps: Tensor, levels: int, rows: _Rows, settings: cfg.AdaRound, seed: int
) -> Tensor:
    """0 or 1 for each weight: whether it is rounded up. Adam (Kingma and Ba, 2015) on the paper's equation 25."""
    # Number by number in NumPy, a few at a time: what lies in the cache costs a tenth of whole tensors.
    lower, each = floor.numpy().ravel(), np.broadcast_to(steps.numpy(), floor.shape).ravel()
    blocks = [slice(begin, begin + BLOCK) for begin in range(0, lower.size, BLOCK)]
    fraction = (scaled.numpy().ravel() - lower).clip(1e-3, 1 - 1e-3)
    inverse = (fraction - GAMMA) / (ZETA - GAMMA)
    v = np.log(inverse / (1 - inverse))
    h, slope, weight, first, second = (np.zeros_like(v) for _ in range(5))
    generator = np.random.default_rng(seed)
    # Outputs of all layers are normalised, so that λ means the same for each.
    scale = 1 / max(float(rows.outputs.square().mean()), 1e-12)
    warm_up = round(WARM_UP * settings.iterations)
    for number in range(settings.iterations):
        for part in blocks:
            h[part], slope[part] = _stretched(v[part])
            weight[part] = (lower[part] + h[part]).clip(-levels, levels) * each[part]
        chosen = paddle.to_tensor(generator.integers(0, rows.inputs.shape[1], BATCH))
        x, y = rows.inputs.index_select(chosen, 1), rows.outputs.index_select(chosen, 1)
        error = paddle.matmul(x, paddle.to_tensor(weight.reshape(floor.shape)), transpose_y=True) - y
        of_weight = paddle.matmul(error * (2 * scale / BATCH), x, transpose_x=True).numpy().ravel()
        progress = (number - warm_up) / max(1, settings.iterations - warm_up)
        beta = BETA[0] + (BETA[1] - BETA[0]) * progress
        for part in blocks:
            gradient = of_weight[part] * each[part] * (np.abs(lower[part] + h[part]) <= levels)
            if number >= warm_up:
                away = 2 * h[part] - 1
                gradient -= settings.regularization * 2 * beta * np.sign(away) * np.abs(away) ** (beta - 1)
            gradient *= slope[part]
            first[part] += 0.1 * (gradient - first[part])
            second[part] += 0.001 * (gradient * gradient - second[part])
            corrected = second[part] / (1 - 0.999 ** (number + 1))
            v[part] -= settings.lr / (1 - 0.9 ** (number + 1)) * first[part] / (np.sqrt(corrected) + 1e-8)
    return paddle.to_tensor((_stretched(v)[0] >= 0.5).astype(np.float32).reshape(floor.shape))


def _stretched(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h of each V, and its derivative."""
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-v))
    stretched = sigmoid * (ZETA - GAMMA) + GAMMA
    inside = (stretched > 0) & (stretched < 1)
    return stretched.clip(0, 1), sigmoid * (1 - sigmoid) * (ZETA - GAMMA) * inside
