"""Recipes of CONTRIBUTING.md that add one file and one YAML, followed to the letter in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import TINY

ROOT = Path(__file__).parents[1]


def followed(title: str, folder: Path, *overrides: str) -> tuple[Path, str]:
    """The directory of a tiny run of a package that got what a recipe says, and what it said on the standard error."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    paths = re.findall(r"`((?:runner|conf)/[\w/]+\.(?:py|yaml))` (?:takes|makes)", section)
    blocks = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert len(paths) == len(blocks) == 2
    for part in ("runner", "conf"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, block in zip(paths, blocks, strict=True):
        assert not (folder / path).exists()
        (folder / path).write_text(block)
    (folder / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "runner", *TINY, "hydra.run.dir=run", *overrides],
        cwd=folder / "work",
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder / "work" / "run", done.stderr
