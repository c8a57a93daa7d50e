"""All networks of a mode as one layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from .taps import Features, Reader, Tap, tapped


class Output(NamedTuple):
    """The outputs of a network."""

    logits: Tensor
    """float [N, classes]."""
    features: Features
    """Layer → float32 [N, C, H, W], for the layers that are tapped."""


class Networks(nn.Layer):
    """Named networks that are all called on the same batch.

    Images [N, 3, H, W] give a dict of outputs by name, the trained networks first. A parameter's name starts with its
    network's: `student.conv1.conv.weight`. Frozen networks run in eval mode without gradients whatever mode this layer
    is in; they are not sublayers, so optimizers, checkpoints and DataParallel do not see them.
    """

    def __init__(self, trained: dict[str, nn.Layer], frozen: dict[str, nn.Layer] | None = None) -> None:
        super().__init__()
        assert not trained.keys() & (frozen or {}).keys(), "a network is either trained or frozen"
        self.trained = tuple(trained)
        for name, network in trained.items():
            self.add_sublayer(name, network)
        # nn.Layer does not register what is in a dict.
        self._frozen = dict(frozen or {})
        self._taps: dict[str, list[Tap]] = {}
        self._held: list[nn.Layer] = []
        for network in self._frozen.values():
            network.eval()

    def __iter__(self) -> Iterator[str]:
        return iter((*self.trained, *self._frozen))

    def __len__(self) -> int:
        return len(self.trained) + len(self._frozen)

    def __contains__(self, name: object) -> bool:
        return name in self.trained or name in self._frozen

    def __getitem__(self, name: str) -> nn.Layer:
        if name in self._frozen:
            return self._frozen[name]
        if name in self.trained:
            return self._sub_layers[name]
        raise KeyError(name)

    def add_frozen(self, name: str, network: nn.Layer) -> None:
        """Add a frozen network."""
        assert name not in self
        self._frozen[name] = network
        network.eval()

    def remove_frozen(self, name: str) -> None:
        """Remove a frozen network, and free its memory."""
        del self._frozen[name]
        self._taps.pop(name, None)

    def hold(self, layers: Iterable[nn.Layer]) -> None:
        """Keep these layers, and no others, in eval mode while the rest trains."""
        for layer in self._held:
            layer.training = self.training
        self._held = list(layers)
        for layer in self._held:
            layer.training = False

    def train(self, mode: bool = True) -> Networks:
        """Switch to training mode, except for layers that are held in eval mode."""
        super().train(mode)
        for layer in self._held:
            layer.training = False
        return self

    def tap(self, name: str, readers: Mapping[str, Reader]) -> None:
        """From now on return the outputs of some layers as features, in this order, converted by their readers.

        Calls of the network itself, such as an evaluation's, are unaffected.
        """
        layers = dict(self[name].named_sublayers())
        self._taps[name] = [Tap(layer, layers[layer], reader) for layer, reader in readers.items()]

    def forward(self, images: Tensor) -> dict[str, Output]:
        outputs = {name: self._output(name, images) for name in self.trained}
        with paddle.no_grad():
            outputs |= {name: self._output(name, images) for name in self._frozen}
        return outputs

    def _output(self, name: str, images: Tensor) -> Output:
        taps = self._taps.get(name)
        if not taps:
            return Output(self[name](images), {})
        with tapped(taps) as features:
            logits = self[name](images)
        return Output(logits, {tap.name: features[tap.name] for tap in taps})
