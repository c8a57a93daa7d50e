"""Optimizers from the config: weight decay groups, gradient clipping and the learning rate's schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn
from paddle.optimizer.lr import LambdaDecay

from .. import config as cfg
from ..compression import lsq, qat
from ..config.targets import load_target, wrong_result
from ..kernels.optimizer import AdamW as FusedAdamW
from . import schedules

_NORMS = (
    nn.layer.norm._BatchNormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.layer.norm._InstanceNormBase,
)


class Rate(LambdaDecay):
    """A learning rate: a base rate times the factor of a schedule."""

    def __init__(self, base: float, schedule: cfg.Schedule, steps: int, steps_per_epoch: int) -> None:
        self.schedule, self.steps = schedule, steps
        self.scores: Sequence[float] = ()
        super().__init__(base, lambda step: schedules.factor(schedule, step, self.steps, steps_per_epoch, self.scores))

    def follow(self, steps: int, scores: Sequence[float]) -> None:
        """Set what the rate depends on besides the step: number of steps, and validation scores (see `schedules`)."""
        self.steps, self.scores = steps, scores
        self.last_lr = self.get_lr()


@dataclass
class Optimization:
    """One optimizer, the networks it owns and its schedule."""

    networks: list[str]
    """Names of the networks whose parameters it changes."""
    optimizer: paddle.optimizer.Optimizer
    schedule: Rate
    parameters: dict[str, paddle.Tensor]
    """Structured name (`student.conv1.conv.weight`) → parameter."""
    clip_norm: float | None = None
    """Largest global norm of the gradients."""

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimizer.get_lr())

    @paddle.no_grad()
    def clip(self) -> None:
        """Scale all gradients down together if their global norm is above `clip_norm` (Pascanu et al., ICML 2013).

        Paddle 3.3.1 would take the norm of each parameter group by itself.
        """
        if self.clip_norm is None:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = paddle.stack([(gradient.astype("float32") ** 2).sum() for gradient in gradients]).sum().sqrt()
        factor = self.clip_norm / paddle.maximum(norm, paddle.full([], self.clip_norm, norm.dtype))
        for gradient in gradients:
            # `scale_` would convert the factor to a Python number, which waits for the GPU.
            gradient.multiply_(factor.astype(gradient.dtype))

    def step(self) -> None:
        """Clip, then change the parameters."""
        self.clip()
        self.optimizer.step()


def build(
    config: cfg.Optimizer,
    schedule: cfg.Schedule,
    networks: dict[str, nn.Layer],
    steps: int,
    steps_per_epoch: int,
    quantize: cfg.Quantization | None = None,
    fused: bool = False,
    factors: Mapping[str, float] | None = None,
    further: Iterable[tuple[str, paddle.Tensor]] = (),
) -> Optimization:
    """The optimizer of some networks (name → network), its schedule stretched over `steps` optimizer steps.

    `quantize`: how learnt clips and ranges are trained, if quantization learns any; `fused`: use the compiled CPU
    kernel if the optimizer has one. `factors`: structured name of a parameter → factor of its learning rate. `further`:
    names and parameters that are trained in addition to those of the networks.
    """
    rate = Rate(config.lr, schedule, steps, steps_per_epoch)
    parameters = {
        f"{name}.{key}": parameter
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
        if not parameter.stop_gradient
    }
    parameters |= dict(further)
    groups = _groups(config, networks, parameters, quantize, factors or {})
    return Optimization(list(networks), _optimizer(config, rate, groups, fused), rate, parameters, config.clip_norm)


def _groups(
    config: cfg.Optimizer,
    networks: dict[str, nn.Layer],
    parameters: dict[str, paddle.Tensor],
    quantize: cfg.Quantization | None,
    factors: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Paddle's parameter groups: with decay, without decay, and quantization's own, each split by learning-rate
    factor."""
    clips = {id(alpha) for network in networks.values() for alpha in qat.alphas(network).values()}
    ranges = {id(own) for network in networks.values() for own in lsq.learnt(network).values()}
    pact = quantize.pact if isinstance(quantize, cfg.TrainedQuantization) else cfg.Pact()
    own_factors = {"clips": pact.lr_factor}
    if isinstance(quantize, cfg.LearntQuantization):
        own_factors["ranges"] = quantize.lr_factor
    norms = {
        id(parameter)
        for network in networks.values()
        for layer in network.sublayers(include_self=True)
        if isinstance(layer, _NORMS)
        for parameter in layer.parameters(include_sublayers=False)
    }

    def exempt(parameter: paddle.Tensor) -> bool:
        match config.decay_exempt:
            case cfg.Exempt.nothing:
                return False
            case cfg.Exempt.norms:
                return id(parameter) in norms
        return id(parameter) in norms or parameter.ndim <= 1

    groups: dict[tuple[str, float], list[paddle.Tensor]] = {}
    for name, parameter in parameters.items():
        kind = "spared" if exempt(parameter) else "decayed"
        if id(parameter) in clips | ranges:
            kind = "clips" if id(parameter) in clips else "ranges"
        # Their own factors are relative to the learning rate of their layer's weight.
        factor = factors.get(name, 1.0) * own_factors.get(kind, 1.0)
        groups.setdefault((kind, factor), []).append(parameter)
    decays = {"decayed": _decay(config), "spared": 0.0, "clips": pact.weight_decay, "ranges": 0.0}
    return [
        {"params": own, "weight_decay": decays[kind], "learning_rate": factor} for (kind, factor), own in groups.items()
    ]


def _decay(config: cfg.Optimizer) -> Any:
    if isinstance(config, (cfg.Sgd, cfg.Momentum, cfg.RMSProp)) and config.decay is cfg.Decay.l1:
        return paddle.regularizer.L1Decay(config.weight_decay)
    return config.weight_decay


def _optimizer(
    config: cfg.Optimizer, rate: Rate, groups: list[dict[str, Any]], fused: bool
) -> paddle.optimizer.Optimizer:
    common: dict[str, Any] = {"learning_rate": rate, "parameters": groups}
    match config:
        case cfg.Momentum(momentum=momentum, nesterov=nesterov):
            return paddle.optimizer.Momentum(momentum=momentum, use_nesterov=nesterov, **common)
        case cfg.Sgd():
            return paddle.optimizer.SGD(**common)
        case cfg.RMSProp(rho=rho, momentum=momentum, epsilon=epsilon):
            return paddle.optimizer.RMSProp(rho=rho, momentum=momentum, epsilon=epsilon, **common)
        case cfg.AdamW(beta1=beta1, beta2=beta2, epsilon=epsilon):
            adamw = FusedAdamW if fused else paddle.optimizer.AdamW
            return adamw(beta1=beta1, beta2=beta2, epsilon=epsilon, **common)
        case cfg.Lamb(beta1=beta1, beta2=beta2, epsilon=epsilon):
            # Paddle would take a `weight_decay` for a term of the gradient.
            common["parameters"] = [
                {"lamb_weight_decay" if key == "weight_decay" else key: value for key, value in group.items()}
                for group in groups
            ]
            return paddle.optimizer.Lamb(beta1=beta1, beta2=beta2, epsilon=epsilon, **common)
        case cfg.CustomOptimizer(target=target, kwargs=kwargs):
            optimizer = load_target(target)(**common, **kwargs)
            if not isinstance(optimizer, paddle.optimizer.Optimizer):
                raise wrong_result(f"optimizer.target={target}", optimizer, "a paddle.optimizer.Optimizer")
            return optimizer
    raise AssertionError(config)
