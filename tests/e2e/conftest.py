"""What the tests of the whole command have in common: they take their time."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All are slow, but those few that show in a short time that the whole works (`smoke`)."""
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("smoke"):
            item.add_marker(pytest.mark.slow)
