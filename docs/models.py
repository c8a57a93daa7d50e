"""Writes what networks can do into its page: `python -m docs.models`, from what `python -m tests.zoo` found."""

from __future__ import annotations

from pathlib import Path

from tests.zoo.table import WORKS, stored

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
    return written + mark + table(stored())


def table(rows: dict[str, dict[str, str]]) -> str:
    """A row a network, and under the table why something is refused."""
    lines = [f"| model | {' | '.join(HEADINGS.values())} |", f"|---|{'---|' * len(HEADINGS)}"]
    reasons: list[str] = []
    for name, row in rows.items():
        cells = []
        for column in HEADINGS:
            text = row[column]
            if text == WORKS:
                cells.append("yes")
                continue
            reason = text.partition(": ")[2]
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"no ({reasons.index(reason) + 1})")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


if __name__ == "__main__":
    main()
