"""Names in a report are texts: no Markdown, no HTML, nothing that a shell would do."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import terminal
from runner.report import charts, page, subject

NAME = "-o $(touch pwned) `b` </code> &lt; [x](y)"


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The page and the Markdown of a run in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("texts")
    shutil.copytree(finished / "run", folder / NAME)
    before = os.getcwd()
    os.chdir(folder)
    try:
        found = [subject.read(folder / NAME, "1", NAME)]
        paths = page.write(found, NAME, "python -m runner report", "", folder / "page.html")
    finally:
        os.chdir(before)
    return [path.read_text() for path in paths]


@pytest.mark.parametrize("verb", ["eval", "bench"])
def test_commands_of_a_page_take_a_name_as_it_is(written, verb):
    [line] = [line for line in written[0].splitlines() if f">python -m runner {verb}" in line]
    text = line.partition("<code>")[2].partition("</code>")[0].replace("&#39;", "'")
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shlex.split(text) == ["python", "-m", "runner", verb, f"./{NAME}"]


def test_markdown_shows_a_name_as_it_is(written):
    assert r"-o $(touch pwned) \`b\` \</code\> \&lt; \[x\](y)" in written[1]


@given(st.lists(st.text(st.sampled_from("`~ a\n")), min_size=1))
def test_a_block_of_code_ends_where_it_should(lines):
    opening, *body, closing = page._fenced(lines).split("\n")
    assert opening == closing == "`" * len(opening)
    assert "\n".join(body) == "\n".join(lines)
    assert opening not in "\n".join(body)


@given(st.text())
def test_no_control_character_of_a_name_is_in_a_page(name):
    template = page.environment().from_string("{{ name }}|{{ svg | safe }}")
    shown = template.render(name=name, svg=charts.scatter([charts.Dot(name, name, 1.0, 2.0, 0)], name, name))
    assert not terminal.UNPRINTABLE.search(shown.replace("\n", " "))
