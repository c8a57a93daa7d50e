"""Writes what networks can do into its page: `python -m docs.models`, from what `python -m tests.zoo` found."""

from __future__ import annotations

from pathlib import Path

from tests.findings import WORKS, Reasons
from tests.zoo.table import TABLE

PAGE = Path(__file__).with_name("models.md")
#: What stands before the generated part of the page.
MARK = "<!-- The rest is written by python -m docs.models -->\n\n"
HEADINGS = {
    "train": "trains",
    "resume": "resumes",
    "distil": "distils",
    "export": "ONNX",
    "qat": "int8",
    "fpgm": "pruned",
}


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page as it should be."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return written + mark + table()


def table() -> str:
    """A row a network, and under the table why something is refused."""
    lines = [f"| model | {' | '.join(HEADINGS.values())} |", f"|---|{'---|' * len(HEADINGS)}"]
    reasons = Reasons()
    for (name,), row in TABLE.read().items():
        cells = ["yes" if row[column] == WORKS else f"no ({reasons.number(row[column])})" for column in HEADINGS]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *reasons.lines()]).rstrip() + "\n"


if __name__ == "__main__":
    main()
