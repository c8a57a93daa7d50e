"""The network of a run to export, with everything that an export needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from paddle import nn

from .. import config as cfg
from ..models import Networks
from ..runs.result import Calibration
from ..training.thresholds import USUAL


@dataclass
class Subject:
    """An exported network."""

    network: nn.Layer
    """The trained network, including fake quantization if it has any."""
    name: str
    """Its name in the run."""
    config: cfg.Config
    model: cfg.Model
    classes: list[str]
    temperature: float | None = None
    """Divisor of the logits for calibrated probabilities; None: 1."""
    unknown_below: float | None = None
    """Probability of the most probable class below which an image is `unknown`; None: it never is."""
    thresholds: list[float] = field(default_factory=list)
    """Multi-label: the probability of each class from which it is predicted; else empty."""
    reference: nn.Layer | None = None
    """The float network that a quantized one was made from, in eval mode; None if unknown."""

    @property
    def built_for(self) -> tuple[int, int]:
        """How many classes and input channels the network was built for."""
        return len(self.classes), self.config.data.channels

    @classmethod
    def of(
        cls,
        config: cfg.Config,
        networks: Networks,
        classes: list[str],
        calibration: Calibration | None = None,
        thresholds: list[float] | None = None,
        reference: nn.Layer | None = None,
    ) -> Subject:
        """The network that `deploy.network` names."""
        name = config.deploy.network
        thresholds = (thresholds or [USUAL] * len(classes)) if config.data.many else []
        model = cfg.model_of(config, name)
        fitted = calibration or Calibration()
        return cls(
            networks[name], name, config, model, classes, fitted.temperature, fitted.unknown_below,
            thresholds, reference,
        )  # fmt: skip
