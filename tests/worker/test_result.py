"""What a run says that it decided by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runner.worker import finish


@pytest.mark.parametrize(("val", "best", "expected"), [(None, None, "None"), ([1], None, "nan"), ([1], 0.5, "0.5")])
def test_nothing_validated_and_never_a_number_are_told_apart(val, best, expected):
    training = SimpleNamespace(loaders=SimpleNamespace(val=val), progress=SimpleNamespace(best=best))
    assert repr(finish._best(training)) == expected
