"""Channels of a network's layers: cuts them, and gives an unpruned network the shapes of a pruned one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import paddle
from paddle import Tensor, nn

from ..errors import CheckpointError
from ..terminal import counted, word_for

#: On convolutions that had several channels in each group: with one they lose no groups, as depthwise ones do.
_KEEPS_GROUPS = "_keeps_groups"
#: Parameter → axis → the remaining channels along it, in order; lists, for JSON.
Kept: TypeAlias = dict[str, dict[int, list[int]]]


def shrink(network: nn.Layer, shapes: Mapping[str, Sequence[int]], origin: str) -> None:
    """Give a network the shapes that it had after pruning, by the names of its state; resized tensors become zero.

    Errors: CheckpointError if names differ or a tensor would have to grow.
    """
    own = network.state_dict()
    wrong = [
        name
        for name, tensor in own.items()
        if name not in shapes
        or len(shapes[name]) != tensor.ndim
        or any(new > old for new, old in zip(shapes[name], tensor.shape, strict=True))
    ]
    if wrong:
        tensors = f"{counted(len(wrong), 'tensor')} {word_for(len(wrong), 'does', 'do')} not fit"
        raise CheckpointError(
            f"{origin} was pruned from another network: {tensors}, such as {wrong[0]}. Choose "
            "the model it was trained with."
        )
    for name, tensor in own.items():
        if list(shapes[name]) != tensor.shape:
            _resize(tensor, shapes[name])
    sync_attributes(network)


def cut(network: nn.Layer, kept: Kept) -> None:
    """Take channels out of a network, in place: its parameters stay the same objects and lose their gradients."""
    own = network.state_dict()
    replace(network, {name: taken(own[name].numpy(), axes) for name, axes in kept.items()})


def taken(value: np.ndarray, axes: Mapping[int, Sequence[int]]) -> np.ndarray:
    """The remaining part of an array."""
    for axis, indices in axes.items():
        value = value.take(indices, axis=axis)
    return value


def replace(network: nn.Layer, values: Mapping[str, np.ndarray], groups: Mapping[str, int] | None = None) -> None:
    """Set values of parameters, also of other shapes, by their names in the state.

    `groups`: those of the convolutions, for channels that come back: the weight of a depthwise convolution with a
    single channel does not show that it is one.
    """
    own = network.state_dict()
    for name, value in values.items():
        put(own[name], value)
    sync_attributes(network)
    for name, layer in convolutions(network):
        if groups and layer._groups != groups[name]:
            layer._groups = groups[name]
            layer._in_channels = layer.weight.shape[1] * layer._groups


def groups(network: nn.Layer) -> dict[str, int]:
    """Convolution → its groups."""
    return {name: layer._groups for name, layer in convolutions(network)}


def is_depthwise(layer: nn.Conv2D) -> bool:
    """Whether each channel of a convolution, before any was removed, is a group of its own."""
    return layer._groups > 1 and layer._in_channels == layer._groups and not hasattr(layer, _KEEPS_GROUPS)


def convolutions(network: nn.Layer) -> Iterator[tuple[str, nn.Conv2D]]:
    """Names and layers of a network's convolutions."""
    for name, layer in network.named_sublayers(include_self=True):
        if isinstance(layer, nn.Conv2D):
            yield name, layer


def put(tensor: Tensor, value: np.ndarray) -> None:
    """Give a tensor a value of another shape, in place."""
    if not tensor.stop_gradient:
        tensor.clear_gradient(set_to_zero=False)
    tensor.value().get_tensor().set(np.ascontiguousarray(value), paddle.framework._current_expected_place())


def _resize(tensor: Tensor, shape: Sequence[int]) -> None:
    put(tensor, np.zeros(shape, dtype=np.asarray(tensor.value().get_tensor()).dtype))


def sync_attributes(network: nn.Layer) -> None:
    """Set channels, groups and features of the layers from the shapes of their weights."""
    for layer in network.sublayers(include_self=True):
        match layer:
            case nn.Conv2D():
                filters, width = layer.weight.shape[:2]
                if is_depthwise(layer):
                    # Whole groups were removed.
                    layer._groups = layer._groups * filters // layer._out_channels
                elif layer._groups > 1:
                    setattr(layer, _KEEPS_GROUPS, True)
                layer._out_channels, layer._in_channels = filters, width * layer._groups
            case nn.layer.norm._BatchNormBase():
                layer._num_features = layer._mean.shape[0]
            case nn.Linear():
                layer.in_features, layer.out_features = layer.weight.shape


def channels(network: nn.Layer) -> dict[str, int]:
    """Convolution → its filters."""
    return {name: layer.weight.shape[0] for name, layer in convolutions(network)}
