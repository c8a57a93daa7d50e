"""The random state goes through JSON and back."""

from __future__ import annotations

import json
import random

import numpy as np
import paddle

from runner.training import seeding


def draws():
    return [*paddle.randn([3]).tolist(), *np.random.random(3).tolist(), random.random()]


def test_a_restored_state_draws_the_same_numbers():
    seeding.seed(5)
    draws()
    saved = json.loads(json.dumps(seeding.state()))
    expected = draws()
    draws()
    seeding.restore(saved)
    assert draws() == expected


def test_equal_seeds_draw_equal_numbers():
    seeding.seed(7)
    first = draws()
    seeding.seed(7)
    assert draws() == first
