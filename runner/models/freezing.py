"""Parts of networks that do not train, for a while or at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .networks import Networks
from .parts import Part


@dataclass(eq=False)
class Frozen:
    """A part of one network that does not train."""

    network: str
    part: Part
    until: int | None = None
    """The optimizer step with which it begins to train; None: it never does."""


class Freezing:
    """What of the networks is frozen at a step: a function of its number alone, so that a checkpoint need not know.

    Frozen parameters have no gradient, and where nothing that trains lies before a layer it is not part of the
    backward pass. Its layers are in eval mode: statistics stay as they are, and nothing in them is left to chance.
    """

    def __init__(self, networks: Networks, parts: Sequence[Frozen] = ()) -> None:
        self.networks, self.parts = networks, parts
        self._frozen: list[Frozen] = []
        # Optimizers and processes see all that will ever train.
        self.follow(math.inf)

    @property
    def changes(self) -> bool:
        """Whether something begins to train within the run."""
        return any(part.until is not None for part in self.parts)

    def touches(self, network: str) -> bool:
        """Whether some of a network never trains."""
        return any(part.network == network and part.until is None for part in self.parts)

    def has(self, name: str) -> bool:
        """Whether something of the networks' state is frozen now; its name begins with its network's."""
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
        self.networks.hold([layer for one in frozen for layer in one.part.held])
