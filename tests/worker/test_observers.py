"""What the terminal is told of a validation."""

from __future__ import annotations

import pytest

from runner.training.state import Progress
from runner.worker.observers import _standing


@pytest.mark.parametrize(
    ("scores", "better", "said"),
    [
        ([0.5], True, "best so far"),
        ([0.5, 0.6], True, "best so far"),
        ([0.6, 0.5, 0.6], True, "equal to the best so far, and later"),
        ([0.6, 0.5], False, ""),
        ([-0.3, -0.3], True, "equal to the best so far, and later"),
        ([float("nan"), 0.5], True, "best so far"),
    ],
)
def test_a_validation_that_equals_the_best_is_not_called_a_new_best(scores, better, said):
    progress = Progress()
    progress.scores = scores
    assert _standing(progress, better) == said
