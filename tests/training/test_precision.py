"""The order of scaling and stepping, seen through a scaler that writes down what happens to it."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.errors import ConfigError
from runner.training import precision
from runner.training.optimizers import Optimization
from runner.training.precision import Precision


class RecordingScaler:
    """Scales as Paddle's scaler does, on any device, and records every call."""

    def __init__(self, scale=8.0):
        self.calls = []
        self._scale = paddle.to_tensor([scale])
        self._found_inf = paddle.to_tensor([False])
        self._optimizer_states = {}

    def is_use_dynamic_loss_scaling(self):
        return True

    def scale(self, loss):
        self.calls.append("scale")
        return loss * self._scale

    def unscale_(self, optimizer):
        self.calls.append(f"unscale {optimizer.name}")
        bad = False
        for parameter in optimizer.parameters:
            parameter.grad.set_value(parameter.grad / self._scale)
            bad = bad or not bool(paddle.isfinite(parameter.grad).all())
        self._found_inf = paddle.to_tensor([bad])

    def step(self, optimizer):
        self.calls.append(f"step {optimizer.name}")
        if not bool(self._found_inf):
            optimizer.step()

    def update(self):
        self.calls.append("update")


class RecordedOptimizer:
    """A real optimizer whose moving and clearing is written down too."""

    def __init__(self, name, parameters, calls):
        self.name, self.parameters, self.calls = name, parameters, calls
        self.optimizer = paddle.optimizer.SGD(0.1, parameters=parameters)

    def step(self):
        self.calls.append(f"move {self.name}")
        self.optimizer.step()

    def clear_grad(self, set_to_zero):
        self.calls.append(f"clear {self.name}")
        self.optimizer.clear_grad(set_to_zero)


class Recorded(Optimization):
    """An optimization whose clipping is written down, with the norm it sees."""

    def clip(self):
        self.seen_norm = float(sum((p.grad**2).sum() for p in self.parameters.values())) ** 0.5
        self.optimizer.calls.append(f"clip {self.optimizer.name}")
        super().clip()


def two_networks(factor):
    scaler = RecordingScaler()
    layers = [nn.Linear(3, 1), nn.Linear(3, 1)]
    optimizers = [
        Recorded(
            [name],
            RecordedOptimizer(name, layer.parameters(), scaler.calls),
            None,
            dict(layer.named_parameters()),
            clip_norm=1.0,
        )
        for name, layer in zip("ab", layers, strict=True)
    ]
    casting = Precision(scaler=scaler)
    inputs = paddle.ones([2, 3])
    casting.backward((layers[0](inputs) * factor).sum() + layers[1](inputs).sum())
    return scaler, layers, optimizers, casting


def test_a_step_scales_once_unscales_all_steps_all_updates_once_and_clears_all():
    scaler, layers, optimizers, casting = two_networks(1.0)
    casting.step(optimizers)
    assert scaler.calls == [
        "scale",
        "unscale a",
        "unscale b",
        "clip a",
        "step a",
        "move a",
        "clip b",
        "step b",
        "move b",
        "update",
        "clear a",
        "clear b",
    ]
    assert all(parameter.grad is None for layer in layers for parameter in layer.parameters())


def test_clipping_sees_gradients_that_are_unscaled():
    _, _, optimizers, casting = two_networks(1.0)
    casting.step(optimizers)
    # d/dw of the sum of two rows of ones is 2 for each of 3 weights and the bias.
    assert optimizers[0].seen_norm == pytest.approx(4.0)


def test_an_overflow_in_one_network_makes_every_optimizer_skip_the_step():
    _, layers, optimizers, casting = two_networks(float("inf"))
    before = [parameter.numpy() for layer in layers for parameter in layer.parameters()]
    casting.step(optimizers)
    for parameter, value in zip([p for layer in layers for p in layer.parameters()], before, strict=True):
        np.testing.assert_array_equal(parameter.numpy(), value)


def test_without_a_scaler_optimizers_step_and_gradients_are_cleared():
    layer = nn.Linear(3, 1)
    optimizer = Optimization(["a"], paddle.optimizer.SGD(0.1, parameters=layer.parameters()), None, {})
    before = layer.weight.numpy()
    casting = Precision()
    casting.backward(layer(paddle.ones([2, 3])).sum())
    casting.step([optimizer])
    assert not np.allclose(layer.weight.numpy(), before)
    assert layer.weight.grad is None


@pytest.mark.parametrize("amp", [cfg.Fp16(), cfg.Bf16()])
def test_mixed_precision_on_a_cpu_is_refused_with_the_remedy(amp):
    with pytest.raises(ConfigError, match="amp.fallback=true"):
        precision.build(amp, "cpu")


@pytest.mark.parametrize("amp", [cfg.Fp16(fallback=True), cfg.Bf16(fallback=True)])
def test_falling_back_to_float32_is_recorded(amp):
    casting = precision.build(amp, "cpu")
    assert casting.fell_back
    assert casting.level == "O0"
