"""Accuracy counts as sorting would."""

from __future__ import annotations

import numpy as np
import paddle
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.training import sums


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 12), st.integers(1, 5))
def test_hits_equal_those_of_a_stable_sort(seed, rows, classes, k):
    generator = np.random.default_rng(seed)
    # Few distinct values, so that ties are frequent.
    logits = generator.integers(0, 4, (rows, classes)).astype("float32")
    labels = generator.integers(0, classes, rows)
    order = np.argsort(-logits, axis=-1, kind="stable")
    places = (order == labels[:, None]).argmax(axis=-1)
    expected = [(places < 1).sum(), (places < k).sum()]
    assert sums.correct(paddle.to_tensor(logits), paddle.to_tensor(labels), k).numpy().tolist() == expected
    # In another precision Paddle's operators count.
    assert sums.correct(paddle.to_tensor(logits).astype("float64"), paddle.to_tensor(labels), k).tolist() == expected


def test_a_network_that_returns_nan_is_never_right():
    for kind in ("float32", "float64"):
        logits = paddle.full([4, 10], float("nan"), kind)
        assert sums.correct(logits, paddle.to_tensor([0, 1, 2, 3]), 5).numpy().tolist() == [0, 0]
