"""The pages of the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: First words of what a reader types; other indented lines are what is printed, or files.
TYPED = {"python", "runner", "make", "pip", "pytest", "mlflow", "curl", "export", ".", "srun", "sbatch", "git"}


def commands(page: Path) -> list[str]:
    """Every command in the indented blocks of a page, in order, without comments and line breaks."""
    found: list[str] = []
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if not re.match(r" {4}\S", line):
            continue
        text = line.strip()
        while text.endswith("\\"):
            text = text[:-1] + next(lines).strip()
        if text.split()[0] in TYPED:
            found.append(re.sub(r"\s{2,}#.*$", "", text))
    return found


def words(command: str) -> list[str]:
    """The words of a command, as a shell divides them."""
    return shlex.split(command)
