"""A finished run on its way to a store, beside things that are not to be sent."""

from __future__ import annotations

import shutil

import pytest

OUTSIDE = "do not send this"


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of a finished run that no store has yet, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "mlflow.json").unlink()
    (tmp_path / "outside.txt").write_text(OUTSIDE)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(OUTSIDE)
    return tmp_path / "run"
