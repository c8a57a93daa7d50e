"""The figures of the pages and the commands that print them: `python -m docs.figures [WORD…] [--run] [--write]`.

Without options it lists every table of figures with its page and command, those alone that have every WORD in either.
`--run` runs the commands and prints what has changed, `--write` puts what was measured in its place. A table is known
by its headings; a command whose tables have others is named. Whatever a command takes, hours in all, it is run for.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runner.terminal import counted

ROOT = Path(__file__).parents[1]
#: What prints figures, as a line of a page that is a block of code.
COMMAND = re.compile(r" {4}(python -m (?:benchmarks|docs)\.[\w.]+[^#]*?)\s*(?:#.*)?")
ROW, RULE = re.compile(r"\|.*\|"), re.compile(r"[|:\- ]+")


@dataclass(frozen=True)
class Table:
    """A table of Markdown in lines of some text."""

    begin: int
    """Its first line, counted from 0."""
    rows: tuple[str, ...]

    @property
    def headings(self) -> list[str]:
        """Its headings without what is around them."""
        return [cell.strip() for cell in self.rows[0].strip("|").split("|")]


@dataclass(frozen=True)
class Figures:
    """The tables below a command, up to the next command or heading of the page."""

    page: Path
    command: str
    tables: tuple[Table, ...]


def tables(lines: list[str]) -> list[Table]:
    """Every table in some lines."""
    found, number = [], 0
    while number < len(lines):
        end = number
        while end < len(lines) and ROW.fullmatch(lines[end]):
            end += 1
        if end - number > 2 and RULE.fullmatch(lines[number + 1]):
            found.append(Table(number, tuple(lines[number:end])))
        number = max(end, number + 1)
    return found


def of_page(page: Path) -> list[Figures]:
    """What a page has of commands that print figures, in its order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    places = [(number, match[1]) for number, line in enumerate(lines) if (match := COMMAND.fullmatch(line))]
    ends = [number for number, line in enumerate(lines) if line.startswith("#")] + [len(lines)]
    found = []
    for number, command in places:
        end = min(one for one in [*ends, *(place for place, _ in places)] if one > number)
        below = tuple(Table(number + table.begin, table.rows) for table in tables(lines[number:end]))
        found.append(Figures(page, command, below))
    return found


def all_figures(folder: Path = ROOT / "docs") -> list[Figures]:
    """Those of every page."""
    return [figures for page in sorted(folder.glob("*.md")) for figures in of_page(page)]


def measure(command: str) -> tuple[list[Table], bool]:
    """The tables that a command prints, and whether it succeeded.

    A benchmark prints them, too, where a bound does not hold.
    """
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{command} ended with exit code {done.returncode}: nothing is written", file=sys.stderr)
    return tables(done.stdout.splitlines()), not done.returncode


def compare(figures: Figures, measured: list[Table], write: bool) -> bool:
    """Print how measured tables differ from those of the page, or write them there.

    Returns whether each has its place, and each table of the page was measured.
    """
    old = {tuple(table.headings): table for table in figures.tables}
    lines = figures.page.read_text(encoding="utf-8").splitlines()
    printed = {tuple(table.headings) for table in measured}
    left = [table for headings, table in old.items() if headings not in printed]
    for table in left:
        name = f"{figures.page.name}, line {table.begin + 1}"
        print(f"{name}: not measured, the command printed no table with these headings")
    placed = not left
    # From the end: what is replaced may have another number of lines.
    for table in sorted(measured, key=lambda one: getattr(old.get(tuple(one.headings)), "begin", -1), reverse=True):
        before = old.get(tuple(table.headings))
        if before is None:
            placed = False
            print(f"{figures.page.name} has no table with these headings:", *table.rows, sep="\n")
        elif before.rows == table.rows:
            print(f"{figures.page.name}, line {before.begin + 1}: unchanged")
        elif write:
            lines[before.begin : before.begin + len(before.rows)] = table.rows
            print(f"{figures.page.name}, line {before.begin + 1}: written")
        else:
            name = f"{figures.page.name}, line {before.begin + 1}"
            print(*difflib.unified_diff(before.rows, table.rows, name, "measured", lineterm=""), sep="\n")
    if write:
        figures.page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return placed


def main(arguments: list[str] | None = None) -> int:
    """List, run, write."""
    parser = argparse.ArgumentParser(prog="python -m docs.figures", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only what has every WORD in its command or page")
    parser.add_argument("--run", action="store_true", help="run the commands and print what has changed")
    parser.add_argument("--write", action="store_true", help="run them and write what was measured into the pages")
    options = parser.parse_args(arguments)
    chosen = [
        figures for figures in all_figures()
        if all(word in f"{figures.page.name} {figures.command}" for word in options.words)
    ]  # fmt: skip
    if not chosen:
        parser.error("no figures have these words; without words all are listed")
    if not (options.run or options.write):
        for figures in chosen:
            count = len(figures.tables)
            print(f"{figures.page.name:18} {counted(count, 'table')}  {figures.command}")
        return 0
    placed = True
    for number in range(len(chosen)):
        # Read again: what was written before may have moved it.
        figures = next(one for one in of_page(chosen[number].page) if one.command == chosen[number].command)
        print(f"== {figures.command}", flush=True)
        measured, succeeded = measure(figures.command)
        placed = compare(figures, measured, options.write and succeeded) and succeeded and placed
    return 0 if placed else 1


if __name__ == "__main__":
    sys.exit(main())
