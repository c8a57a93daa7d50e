"""Distillation losses between logits and a peer's or teacher's logits."""

from __future__ import annotations

from collections.abc import Callable

import paddle
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target
from . import decoupled, losses, relations

#: (logits [N, K], the peer's logits [N, K], labels as a `Batch` has them) → scalar
MimicLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
#: (logits [N, K], the peer's logits [N, K], temperature) → scalar
Divergence = Callable[[Tensor, Tensor, float], Tensor]


def build(config: cfg.Mimic, divergence: Divergence, key: str = "mimic") -> MimicLoss:
    """The mimic loss that the config chooses below this key, without its weight.

    `divergence`: single-label or multi-label KL.
    """
    loss = _build(config, divergence, key)
    if isinstance(config, (cfg.Kl, cfg.Kd, cfg.Dkd)) and config.standardize:
        return lambda logits, peer, labels: loss(standardized(logits), standardized(peer), labels)
    return loss


def _build(config: cfg.Mimic, divergence: Divergence, key: str) -> MimicLoss:
    match config:
        case cfg.Dml():
            return lambda logits, peer, _: divergence(logits, peer, 1.0)
        case cfg.Kl(temperature=temperature):
            return lambda logits, peer, _: divergence(logits, peer, temperature)
        case cfg.Kd(alpha=alpha, temperature=temperature):
            return lambda logits, peer, _: alpha * temperature**2 * divergence(logits, peer, temperature)
        case cfg.Dkd(alpha=alpha, beta=beta, temperature=temperature):
            return lambda logits, peer, labels: decoupled.dkd(logits, peer, labels, alpha, beta, temperature)
        case cfg.Dist(beta=beta, gamma=gamma, temperature=temperature):
            return lambda logits, peer, _: relations.dist(logits, peer, beta, gamma, temperature)
        case cfg.Rkd(distance=distance, angle=angle):
            return lambda logits, peer, _: relations.rkd(logits, peer, distance, angle)
        case cfg.JsOriginal(divergence=kind, reduction=reduction):
            formula = losses.js_original if kind is cfg.Divergence.js else losses.kl_original
            return lambda logits, peer, _: formula(logits, peer, reduction.name)
        case cfg.CustomMimic(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda logits, peer, _: losses.scalar(custom(logits, peer, **kwargs), f"{key}.target={target}")
    raise AssertionError(config)


def standardized(logits: Tensor) -> Tensor:
    """Each image's logits [N, K] at mean 0 and standard deviation 1 over the classes, at least in float32.

    Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024, with their code's deviation (of K - 1) and
    constant; the temperature divides what comes out.
    """
    wide = logits if logits.dtype in (paddle.float32, paddle.float64) else logits.astype("float32")
    centred = wide - wide.mean(axis=-1, keepdim=True)
    # The root has no slope at 0, where all logits are the same.
    variance = centred.square().sum(axis=-1, keepdim=True) / max(1, logits.shape[-1] - 1)
    return centred / (variance.clip(min=1e-24).sqrt() + 1e-7)
