"""The documentation as a site: it builds, no link is broken, nothing comes from a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest

from runner.cli.config_dir import choices
from tests.docs.pages import PAGES, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_a_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 8
    for page in pages:
        loaded = re.findall(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["'](https?:[^"']+)""", page.read_text())
        assert not [url for url in loaded if "canonical" not in url], page.name


@pytest.mark.parametrize(("page", "formulas"), [("modes", 25), ("compression", 10), ("metrics", 3)])
def test_formulas_are_written_out(site, page, formulas):
    text = (site / f"{page}.html").read_text()
    assert text.count("<math") >= formulas
    assert "$" not in re.sub(r"<(script|code|pre).*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith("http"):
            target, _, anchor = unquote(link).partition("#")
            path = (page.parent / target) if target else page
            assert path.exists(), link
            headings = (
                [anchor_of(line) for line in path.read_text().splitlines() if line.startswith("#")] if anchor else []
            )
            assert not anchor or anchor in headings, link


#: Files that recipes tell a reader to write.
ADDED = {
    "runner/tracking/lines.py",
    "conf/tracking/lines.yaml",
    "runner/training/same_maps.py",
    "conf/features/same_maps.yaml",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    named = re.findall(r"`((?:runner|tests|conf|benchmarks|examples)/[\w/.-]+)`", page.read_text())
    assert not [path for path in named if not (ROOT / path).exists() and path not in ADDED]


def anchor_of(heading):
    """How a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ")).strip().lower().replace(" ", "-")


def test_the_table_of_the_readme_has_every_choice_of_its_groups():
    rows = re.findall(r"^\| `\+?([\w/]+)` \| (.+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) > 12
    for group, cells in rows:
        named = set(re.findall(r"`([^`]+)`", cells))
        if group == "experiment":
            assert {f"{choice.split('/')[0]}/*" for choice in choices()[group]} <= named
        elif group != "model":
            assert set(choices()[group]) <= named, group
