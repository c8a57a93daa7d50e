"""Which top-k accuracy is a number worth showing."""

from __future__ import annotations

import pytest

from runner import config as cfg
from runner.worker.stage import topk


@pytest.mark.parametrize(
    ("classes", "wanted", "k"),
    [
        (1000, 5, 5), (10, 5, 5), (10, 3, 3),
        # Chance alone would have half of the images right, or nearly all.
        (9, 5, 1), (5, 5, 1), (3, 2, 1),
        (6, 3, 3), (4, 2, 2), (2, 5, 1), (2, 1, 1), (1, 5, 1),
    ],
)  # fmt: skip
def test_top_k_is_left_out_of_few_classes(classes, wanted, k):
    assert topk(cfg.Train(topk=wanted), classes) == k


@pytest.mark.parametrize("monitor", ["val/top4", "val/student/top4", "val/student1/top4"])
def test_what_is_monitored_is_computed_if_it_can_be_wrong(monitor):
    assert topk(cfg.Train(monitor=monitor), 5) == 4
    assert topk(cfg.Train(monitor=monitor, topk=4), 5) == 4
    assert topk(cfg.Train(monitor=monitor, topk=4), 4) == 3
