"""Freezing parts of networks, temporarily or for the whole run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .networks import Networks
from .parts import Part


@dataclass(eq=False)
class Frozen:
    """A frozen part of one network."""

    network: str
    part: Part
    until: int | None = None
    """The first optimizer step in which it trains; None: it never does."""


class Freezing:
    """What is frozen at a step: a function of the step number alone, so that checkpoints need not store it.

    Frozen parameters have no gradient, and layers with nothing trainable before them are not part of the backward pass.
    Frozen layers are in eval mode: statistics are not updated, and dropout is off.
    """

    def __init__(self, networks: Networks, parts: Sequence[Frozen] = ()) -> None:
        self.networks, self.parts = networks, parts
        self._frozen: list[Frozen] = []
        # Optimizers and processes must see every parameter that will ever train.
        self.follow(math.inf)

    @property
    def changes(self) -> bool:
        """Whether something begins to train within the run."""
        return any(part.until is not None for part in self.parts)

    def touches(self, network: str) -> bool:
        """Whether part of a network never trains."""
        return any(part.network == network and part.until is None for part in self.parts)

    def waiting(self, steps: int) -> list[str]:
        """The networks of which a part that is frozen for a while has not trained in the first `steps` steps."""
        return sorted({part.network for part in self.parts if part.until is not None and steps <= part.until})

    def parameters(self, network: str) -> set[str]:
        """The names of a network's parameters that are frozen at some time."""
        return {name for one in self.parts if one.network == network for name in one.part.parameters}

    def has(self, name: str) -> bool:
        """Whether this entry of the networks' state is frozen now; its name begins with its network's."""
        network, _, rest = name.partition(".")
        return any(frozen.network == network and frozen.part.has(rest) for frozen in self._frozen)

    def follow(self, step: float) -> None:
        """Freeze what is frozen in an optimizer step (the first is 0), and let all else train."""
        frozen = [one for one in self.parts if one.until is None or step < one.until]
        if len(frozen) == len(self._frozen):
            return
        self._frozen = frozen
        for one in self.parts:
            for parameter in one.part.parameters.values():
                parameter.stop_gradient = one in frozen
        self.networks.hold([layer for one in frozen for layer in one.part.layers_to_freeze])
