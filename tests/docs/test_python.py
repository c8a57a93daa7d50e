"""The page on Python does, from top to bottom, what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


def program():
    """The indented blocks of the page, as cells one after another."""
    lines = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(re.sub("^ {4}", "", line) for line in lines if line.startswith("    ") or not line)


def test_the_page_is_python():
    assert compile(program(), "python.md", "exec")


@pytest.mark.slow
def test_the_page_runs_as_it_is_printed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", program()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "MobileNetV3 False" in done.stdout
    assert "Did you mean 'cls'?" in done.stdout
    assert re.search(r"cls_distill +FINISHED", done.stdout)
