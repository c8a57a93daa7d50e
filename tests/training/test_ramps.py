"""Terms whose factor changes over the steps."""

from __future__ import annotations

import pytest

from runner.config import Ramp
from runner.training import modes
from tests.training.test_modes import several


@pytest.mark.parametrize(
    ("ramp", "shares"),
    [
        (Ramp(), [1, 1, 1, 1, 1, 1]),
        (Ramp(steps=4), [0, 0.25, 0.5, 0.75, 1, 1]),
        (Ramp(epochs=0.5), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Ramp(start=1, end=0.5, begin=1, steps=2), [1, 1, 0.75, 0.5, 0.5, 0.5]),
        (Ramp(start=0.5, begin=0.2, epochs=0.2), [0.5, 0.5, 0.5, 0.75, 1, 1]),
    ],
)
def test_a_factor_changes_linearly_over_steps_or_epochs(ramp, shares):
    assert [ramp.share(step, steps_per_epoch=10) for step in range(6)] == pytest.approx(shares)


def test_each_term_has_a_ramp_of_its_own_and_labels_have_what_kd_does_not(config_of):
    overrides = [
        "mode=cls_distill_multiopt", "mimic=kd", "mimic.alpha=0.8", "mimic.ramp.steps=4",
        "+mimic@also.mimic.order=dist", "also.mimic.order.weight=3", "also.mimic.order.ramp.start=1",
        "also.mimic.order.ramp.end=0", "also.mimic.order.ramp.steps=2", "+mimic@also.mimic.pairs=rkd",
    ]  # fmt: skip
    mode = modes.build(config_of(*overrides), steps_per_epoch=10)
    assert mode.ramped(1) == pytest.approx({"mimic": 0.25, "mimic/order": 1.5})
    _, _, outputs = several(config_of, *overrides, names=("student", "student1"))
    labels = outputs["student"].logits.argmin(axis=1)
    [whole, _], [first, _], [second, _] = (mode.losses(outputs, labels, step) for step in (99, 0, 1))
    for term, share in (("mimic", 0.25), ("mimic/pairs", 1.0)):
        assert float(second[f"{term}/student"]) == pytest.approx(share * float(whole[f"{term}/student"]), rel=1e-5)
    assert float(first["mimic/student"]) == 0
    assert float(whole["mimic/order/student"]) == 0
    assert float(second["mimic/order/student"]) == pytest.approx(float(first["mimic/order/student"]) / 2, rel=1e-5)
    shares = [float(terms["ce/student"]) / float(first["ce/student"]) for terms in (first, second, whole)]
    assert shares == pytest.approx([1, 0.8, 0.2], rel=1e-5)
