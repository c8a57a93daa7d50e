"""User-defined code that returns something else than training needs: named, with what is wanted."""

from __future__ import annotations

import paddle
import pytest

from runner import config as cfg
from runner import models
from runner.errors import ConfigError
from runner.training import binary, feature_losses, losses, mimics, optimizers, schedules

LOGITS = paddle.ones([4, 3])
RESULT = None


def gives(*_, **__):
    """What the test has put there."""
    return RESULT


TARGET = f"{__name__}:gives"
LOSSES = {
    "loss": lambda: losses.build(cfg.CustomLoss(target=TARGET))(LOGITS, paddle.zeros([4], "int64")),
    "loss of many labels": lambda: binary.build(cfg.CustomLoss(target=TARGET))(LOGITS, paddle.ones([4, 3], "uint8")),
    "mimic": lambda: mimics.build(cfg.CustomMimic(target=TARGET), losses.kl_divergence)(
        LOGITS, LOGITS, paddle.zeros([4], "int64")
    ),
    "features": lambda: feature_losses.build(cfg.CustomFeatureLoss(target=TARGET))({}, {}),
    "also.mimic.mine": lambda: mimics.build(cfg.CustomMimic(target=TARGET), losses.kl_divergence, "also.mimic.mine")(
        LOGITS, LOGITS, paddle.zeros([4], "int64")
    ),
    "also.features.mine": lambda: feature_losses.build(cfg.CustomFeatureLoss(target=TARGET), "also.features.mine")(
        {}, {}
    ),
}
#: No loss, and how it is told.
NO_LOSSES = {
    "None": None,
    "a float": 1.5,
    "a tuple": (paddle.ones([]), 1),
    r"float32 \[4\]": paddle.ones([4]),
    r"int64 \[\]": paddle.ones([], "int64"),
}


@pytest.mark.parametrize("told", NO_LOSSES)
@pytest.mark.parametrize("key", LOSSES)
def test_a_loss_is_one_number_in_a_tensor(monkeypatch, key, told):
    monkeypatch.setitem(globals(), "RESULT", NO_LOSSES[told])
    place = rf"^{key.partition(' ')[0]}.target={TARGET} returned {told}, not a paddle.Tensor with one floating-point"
    with pytest.raises(ConfigError, match=place):
        LOSSES[key]()


@pytest.mark.parametrize("key", LOSSES)
@pytest.mark.parametrize("shape", [[], [1]])
def test_a_loss_that_is_one_is_taken(monkeypatch, key, shape):
    monkeypatch.setitem(globals(), "RESULT", paddle.full(shape, 2.5))
    assert float(LOSSES[key]()) == 2.5


@pytest.mark.parametrize("value", [None, 3, LOGITS])
def test_a_network_optimizer_or_schedule_of_another_type_is_named(monkeypatch, value):
    monkeypatch.setitem(globals(), "RESULT", value)
    network = paddle.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=rf"model.target={TARGET} returned .*, not a paddle.nn.Layer"):
        models.build(cfg.CustomModel(target=TARGET), 3)
    with pytest.raises(ConfigError, match=rf"optimizer.target={TARGET} returned .*, not a paddle.optimizer.Optimizer"):
        optimizers.build(cfg.CustomOptimizer(target=TARGET), cfg.Constant(), {"student": network}, 10, 5)
    if value is None:
        with pytest.raises(ConfigError, match=rf"schedule.target={TARGET} returned None, not a number"):
            schedules.factor(cfg.CustomSchedule(target=TARGET), 0, 10, 5)
