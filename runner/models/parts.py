"""Parts of a network by name: what patterns match, what its head is, and how deep a block is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from paddle import Tensor, nn

from ..errors import ConfigError, nearest
from .mobilenet_v3 import Trunk
from .siamese import Siamese

#: Special patterns: the layers that give the logits, and everything else.
HEAD, BACKBONE = "head", "backbone"


@dataclass(eq=False)
class Part:
    """The part of a network that some patterns match."""

    parameters: dict[str, Tensor]
    """Name → trainable parameters, frozen or not."""
    layers: dict[str, nn.Layer]
    """Name → layers all of whose trainable parameters are matched, with their sublayers."""

    @property
    def layers_to_freeze(self) -> list[nn.Layer]:
        """The layers to keep in eval mode while this is frozen: fully matched ones, and those with statistics.

        Dropout between a backbone and its head is not among them, as it regularises the head.
        """
        own = {id(parameter) for parameter in self.parameters.values()}
        inside = _above(self.parameters) & self.layers.keys()
        return [
            layer
            for name, layer in self.layers.items()
            if _is_within(name, inside)
            or any(id(one) not in own for one in layer.parameters(include_sublayers=False))
            or any(True for _ in layer.buffers(include_sublayers=False))
        ]

    def has(self, name: str) -> bool:
        """Whether an entry of the network's state belongs to it: a parameter, or a buffer of one of its layers."""
        return name in self.parameters or _is_within(name, self.layers)


def choose(
    network: nn.Layer, patterns: Iterable[str], head: Collection[str], key: str, frozen: Collection[str] = ()
) -> Part:
    """What patterns match: layers with everything in them, and single parameters.

    Patterns are as in a shell, and match names as in `named_parameters` and `named_sublayers`. `head`: the parameters
    that give the logits; `key` names the patterns in messages; `frozen`: parameters that are matched although they
    have no gradient now. Errors: ConfigError for a pattern that matches no parameters.
    """
    trainable = {name: one for name, one in network.named_parameters() if name in frozen or not one.stop_gradient}
    layers = dict(network.named_sublayers())
    chosen: set[str] = set()
    for pattern in patterns:
        named = _named(pattern, [*layers, *trainable], head)
        if not any(_is_within(name, named) for name in trainable):
            raise ConfigError(_refusal(key, pattern, network, [*layers, *trainable], head))
        chosen |= named
    parameters = {name: one for name, one in trainable.items() if _is_within(name, chosen)}
    frozen, training = _above(parameters), _above(trainable.keys() - parameters.keys())
    whole = {name for name in layers if _is_within(name, chosen) or name in frozen - training}
    return Part(parameters, {name: layer for name, layer in layers.items() if _is_within(name, whole)})


def _named(pattern: str, names: Iterable[str], head: Collection[str]) -> set[str]:
    """The layers and parameters whose own name a pattern matches, without their contents."""
    if pattern not in (HEAD, BACKBONE):
        return {name for name in names if fnmatchcase(name, pattern)}
    own = _head_layers(head)
    if pattern == HEAD or not own:
        return own
    return {name for name in names if not _is_within(name, own)} - _above(own)


def _head_layers(head: Iterable[str]) -> set[str]:
    """The layers that contain a head's parameters; a parameter of the network itself stands for itself."""
    return {name.rpartition(".")[0] or name for name in head}


def _is_within(name: str, places: Collection[str]) -> bool:
    """Whether something is one of these layers and parameters, or in one of the layers."""
    while name not in places:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return False
    return True


def _above(names: Iterable[str]) -> set[str]:
    """All layers that contain these layers and parameters."""
    steps = [name.split(".") for name in names]
    return {".".join(own[:count]) for own in steps for count in range(1, len(own))}


def _refusal(key: str, pattern: str, network: nn.Layer, names: Collection[str], head: Collection[str]) -> str:
    if pattern in (HEAD, BACKBONE):
        why = "nothing of it trains" if head else "no parameter follows the number of classes"
        return f"{key}: {type(network).__name__} has no {pattern}, since {why}. Name layers instead."
    own = ", ".join(name for name, child in network.named_children() if child.parameters())
    return (
        f"{key}: '{pattern}' matches no layer and no parameter of {type(network).__name__} that trains."
        f"{nearest(pattern, [HEAD, BACKBONE, *names])} Patterns are written as in a shell (conv1, *.mid_se.*), or the "
        "word backbone. "
        f"Layers here: {own}"
    )


def depths(network: nn.Layer) -> tuple[dict[str, int], int]:
    """Parameter → number of its block, from 0 at the images to the last, which gives the logits; and their count.

    Blocks are the top-level layers of a network in their order. `nn.Sequential`, `nn.LayerList`, and layers that hold
    more than half of all parameters are replaced by the layers within. Scales, shifts and biases on their own, such as
    those of normalisation, belong to the block before; a network's own parameters to the first one. The two trunks of
    `Siamese` are equally deep.
    """
    numbers: dict[str, int] = {}
    count = 0
    for block in _joined(network):
        own = [_as_first_trunk(name) if isinstance(network, Siamese) else name for name in block]
        if own[0] in numbers:
            numbers |= {name: numbers[twin] for name, twin in zip(block, own, strict=True)}
            continue
        numbers |= dict.fromkeys(block, count)
        count += 1
    return numbers, count


def _as_first_trunk(name: str) -> str:
    return f"first.{name.removeprefix('second.')}" if name.startswith("second.") else name


def _joined(network: nn.Layer) -> Iterator[list[str]]:
    """The parameters of each block."""
    parameters = dict(network.named_parameters())
    waiting: list[str] = []
    for names in _blocks(network, "", parameters.keys()):
        is_minor = all(parameters[name].ndim <= 1 for name in names)
        if waiting and not is_minor and any(parameters[name].ndim > 1 for name in waiting):
            yield waiting
            waiting = []
        waiting = [*waiting, *names]
    if waiting:
        yield waiting


def _blocks(layer: nn.Layer, path: str, parameters: Collection[str]) -> Iterator[list[str]]:
    """The names of the parameters of each layer within a layer; its own ones are added to the first.

    `parameters`: those of the network, where shared ones are listed once.
    """
    own = [f"{path}{name}" for name, _ in layer.named_parameters(include_sublayers=False)]
    own = [name for name in own if name in parameters]
    for name, child in layer.named_children():
        place = f"{path}{name}."
        inside = [one for one in parameters if one.startswith(place)]
        is_opened = isinstance(child, (nn.Sequential, nn.LayerList, Trunk)) or (
            2 * len(inside) > len(parameters) and any(True for _ in child.children())
        )
        for block in _blocks(child, place, parameters) if is_opened else [inside]:
            if block:
                yield [*own, *block]
                own = []
    if own:
        yield own
