"""The examples do what they say: their commands as they are, in a copy of their folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, commands, words

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_works_as_its_page_says(example, tmp_path):
    folder = shutil.copytree(example, tmp_path / example.name)
    found = commands(example / "README.md")
    assert len(found) >= 3
    for line in found:
        program, *rest = words(line)
        assert program == "python"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *rest], cwd=folder, capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr + done.stdout
    results = {path.parent.name: json.loads(path.read_text()) for path in Path(folder).rglob("result.json")}
    assert results
    assert all(result["final"]["top1"] > 0.85 for name, result in results.items() if name != "more")
