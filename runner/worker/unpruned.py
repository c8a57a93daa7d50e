"""The network that a pruned one was made from, with the weights that its run began with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import terminal
from ..checkpoints import fitting, preprocessing
from ..compression.effects import Origin
from ..config.rules import network_names
from ..errors import CheckpointError
from . import finished, initial
from .initial import InitialWeights
from .input_conversion import adapt_input


@dataclass
class _Begun:
    """What the run that pruned a network began with."""

    own: InitialWeights
    name: str
    """The network's name in that run."""
    names: tuple[str, ...]
    """Those of all its networks."""

    @property
    def origin(self) -> str:
        """The name of the network that the weights are of, as `fitting.by_network` chooses it."""
        theirs = {array.partition(".")[0] for array in self.own.weights.arrays}
        return self.name if theirs.issuperset(self.names) else "student"

    @property
    def called(self) -> str:
        """The run or file that the weights come from."""
        source = Path(self.own.weights.origin)
        return terminal.place(initial.run_of(source, source) or source)


def find(config: cfg.Config, name: str, classes: list[str], notes: list[str]) -> Origin | None:
    """The network that one of a run's networks was pruned from, which takes the images of that run's config.

    It has the weights that `checkpoint.init_from` gave, in floats. Normalisation and thresholds are its own. None if
    the run began without any. Errors: CheckpointError if they are gone or of other images; a stored config's errors.
    """
    if (begun := _begun(config, name)) is None:
        return None
    own, run = begun.own.weights, begun.own.run
    differing = preprocessing.differences(own.preprocessing, preprocessing.of(config.data))
    has_other_classes = own.classes is not None and own.classes != classes
    has_other_labels = run is not None and run.data.many != config.data.many
    if has_other_classes or has_other_labels or not {*differing} <= {"mean", "std"}:
        raise CheckpointError(f"{begun.called} has other images")
    if own.classes is not None and not own.preprocessing:
        raise CheckpointError(f"{begun.called} does not say how its images were preprocessed")
    arrays = {
        key.replace(begun.name, name, 1): value
        for key, value in fitting.by_network(own.arrays, begun.names).items()
        if key.startswith(f"{begun.name}.")
    }
    network = finished.float_network(config, name, replace(own, arrays=arrays), len(classes))
    trained_with: dict[str, Any] = {**own.preprocessing}
    seen = replace(config.data, **{key: trained_with[key] for key in differing})
    adapt_input("the network before pruning", network, config.data, seen, notes)
    thresholds = finished.thresholds_of(own.thresholds, begun.origin, len(classes)) if config.data.many else None
    return Origin(begun.called, network, finished.decisions(thresholds))


def _begun(config: cfg.Config, name: str) -> _Begun | None:
    """The weights before pruning; an earlier run pruned if this one did not, whose weights this one began with."""
    passed: set[str] = set()
    while named := config.checkpoint.init_from:
        begun = _Begun(initial.read_source(named, config), name, tuple(network_names(config.mode)))
        if config.compression.prune:
            return begun
        if begun.called in passed:
            raise CheckpointError(f"checkpoint.init_from leads back to {begun.called}")
        if begun.own.run is None:
            raise CheckpointError(f"{begun.called} is not a run whose config can be read")
        passed.add(begun.called)
        config, name = begun.own.run, begun.origin
    return None
