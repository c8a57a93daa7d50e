"""A few of the faults of `make test-chaos`, always the same ones."""

from __future__ import annotations

import pytest

from .__main__ import chaos, table


@pytest.mark.slow
def test_runs_under_faults_lose_nothing(tmp_path):
    account = chaos(6, 3, [("cls_distill", 2)], tmp_path)
    assert not any(account.broken.values()), table(account)
    assert sum(account.faults.values()) == 6
    assert account.points > 0
    assert account.checkpoints > 0
