"""Targets of the user are found, or their absence is explained."""

from __future__ import annotations

import pytest

from runner.custom import load_target
from runner.errors import ConfigError


def test_a_target_is_found():
    assert load_target("math:sqrt")(4.0) == 2.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_here:f", "there is no module 'no_such_module_here'"),
        ("math:sqroot", "Did you mean 'sqrt'?"),
        ("math:pi", "not a function or class"),
    ],
)
def test_a_target_that_cannot_be_used_is_explained(target, message):
    with pytest.raises(ConfigError) as refused:
        load_target(target)
    assert message in str(refused.value)
