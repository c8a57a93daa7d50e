"""Every figure has a command; what a command prints is compared with its page, or written there."""

from __future__ import annotations

import re
import shutil
import sys

from docs import figures
from tests.docs.pages import ROOT

PAGE = """# Page

    python -m benchmarks.limits        # a minute

| what | ms |
|---|---:|
| one | 1.0 |

Text between.

| other | MB |
|---|---:|
| two | 2 |

## Next

| not | measured |
|---|---|
| a | b |
"""


def written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    return page


def test_a_command_has_the_tables_up_to_the_next_heading(tmp_path):
    [found] = figures.of_page(written(tmp_path))
    assert found.command == "python -m benchmarks.limits"
    assert [table.headings for table in found.tables] == [["what", "ms"], ["other", "MB"]]


def test_a_difference_is_printed_and_nothing_written(tmp_path, capsys):
    page = written(tmp_path)
    other = ["| other | MB |", "|---|---:|", "| two | 2 |"]
    measured = figures.tables(["noise", "| what | ms |", "|---|---:|", "| one | 1.5 |", "| more | 2.0 |", "", *other])
    assert figures.compare(figures.of_page(page)[0], measured, write=False)
    out = capsys.readouterr().out
    assert "-| one | 1.0 |" in out
    assert "+| one | 1.5 |" in out
    assert page.read_text() == PAGE


def test_what_was_measured_is_written_in_its_place_and_nothing_else_changes(tmp_path):
    page = written(tmp_path)
    more = ["| other | MB |", "|---|---:|", "| two | 3 |"]
    measured = figures.tables(["| what | ms |", "|---|---:|", "| one | 1.5 |", "| more | 2.0 |", "", *more])
    assert figures.compare(figures.of_page(page)[0], measured, write=True)
    expected = PAGE.replace("| one | 1.0 |", "| one | 1.5 |\n| more | 2.0 |").replace("| two | 2 |", "| two | 3 |")
    assert page.read_text() == expected


def test_a_table_without_a_place_is_named(tmp_path, capsys):
    measured = figures.tables(["| else | ms |", "|---|---:|", "| one | 1.5 |"])
    assert not figures.compare(figures.of_page(written(tmp_path))[0], measured, write=False)
    assert "no table with these headings" in capsys.readouterr().out


def test_a_table_of_the_page_that_was_not_measured_is_named(tmp_path, capsys):
    measured = figures.tables(["| what | ms |", "|---|---:|", "| one | 1.0 |"])
    assert not figures.compare(figures.of_page(written(tmp_path))[0], measured, write=False)
    assert "page.md, line 11: not measured" in capsys.readouterr().out
    assert not figures.compare(figures.of_page(written(tmp_path))[0], [], write=True)


def test_a_command_that_fails_is_no_success_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    page = written(tmp_path)
    monkeypatch.setattr(figures, "all_figures", lambda: figures.of_page(page))
    failing = "import sys; print('| what | ms |', '|---|---:|', '| one | 9.0 |', sep='\\n'); sys.exit(1)"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{failing}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(figures.sys, "executable", str(program))
    assert figures.main(["--write"]) == 1
    printed = capsys.readouterr()
    assert "exit code 1" in printed.err
    assert "+| one | 9.0 |" in printed.out
    assert page.read_text() == PAGE


def test_every_benchmark_of_the_page_of_performance_is_a_module_and_has_its_command_in_a_page():
    """The overview names each; where its figures are, the command stands above them."""
    overview = (ROOT / "docs" / "performance.md").read_text().partition("\n## ")[0]
    named = set(re.findall(r"`python -m (benchmarks\.\w+)[^`]*`", overview))
    modules = {f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*.py")}
    assert named == modules - {"benchmarks.__init__", "benchmarks.harness"}
    listed = {re.match(r"python -m (\S+)", one.command)[1] for one in figures.all_figures()}
    assert len(listed & named) > 10
    assert not [one for one in figures.all_figures() if not _exists(one.command)]


def _exists(command):
    module = re.match(r"python -m (\S+)", command)[1]
    return (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_the_real_pages_survive_being_written_as_they_are(tmp_path):
    for page in (ROOT / "docs").glob("*.md"):
        copy = shutil.copy(page, tmp_path)
        for found in figures.of_page(tmp_path / page.name):
            figures.compare(found, list(found.tables), write=True)
        assert (tmp_path / page.name).read_text() == page.read_text(), copy
