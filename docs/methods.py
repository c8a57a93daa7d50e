"""Writes what goes together into its page: `python -m docs.methods`, from what `python -m tests.methods` found."""

from __future__ import annotations

from pathlib import Path

from tests.findings import Reasons, differing
from tests.methods.names import COMPRESSION, DISTILLATION, NETWORKS
from tests.methods.table import TABLE

PAGE = Path(__file__).with_name("combinations.md")
#: What stands before the generated part of the page.
MARK = "<!-- The rest is written by python -m docs.methods -->\n\n"


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page as it should be."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    reasons = Reasons()
    tables = [f"## {title}\n\n{table(names, reasons)}\n" for title, names in
              (("Compression", COMPRESSION), ("Distillation", DISTILLATION))]  # fmt: skip
    return (written + mark + "\n".join([*tables, *reasons.lines()])).rstrip() + "\n"


def table(names: dict[str, list[str]], reasons: Reasons) -> str:
    """A row a method, a column a network; `reasons` is given why something is refused."""
    rows = TABLE.read()
    lines = [f"| | {' | '.join(f'`{network}`' for network in NETWORKS)} |", f"|---|{'---|' * len(NETWORKS)}"]
    for name in names:
        cells = [cell(rows.get((name, network)), reasons) for network in NETWORKS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: dict[str, str] | None, reasons: Reasons) -> str:
    """The modes in which a method works, and why not in the others."""
    if row is None:
        return ""
    return ", ".join(f"`{mode}`: no ({reasons.number(text)})" for mode, text in differing(row).items()) or "all"


if __name__ == "__main__":
    main()
