"""The weights that a run begins with, of another run."""

from __future__ import annotations

import pytest

from runner import models
from runner.checkpoints import weights
from runner.cli.compose import config_of
from runner.models import Networks
from runner.worker import initial
from tests.worker.test_pretrained import SMALL


def networks_of(config, names):
    return Networks({name: models.build(config.model, 10, config.data.channels) for name in names})


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (["student", "student1"], ["student"], ["student"]),
        (["student"], ["student", "student1"], ["student", "student"]),
        (["student", "student1"], ["student", "student1"], ["student", "student1"]),
    ],
)  # fmt: skip
def test_what_was_pruned_is_known_of_the_networks_that_got_the_weights(before, now, expected):
    config = config_of([*SMALL])
    arrays = {name: value.numpy() for name, value in networks_of(config, before).state_dict().items()}
    own = weights.Weights("run", arrays, {name: {"macs": [1, 1], "of": name} for name in before})
    networks = networks_of(config, now)
    classes = [f"class {number}" for number in range(10)]
    plan, _ = initial.load_into(initial.InitialWeights(own, None, []), config, networks, classes)
    assert list(plan) == now
    assert [one["of"] for one in plan.values()] == expected
