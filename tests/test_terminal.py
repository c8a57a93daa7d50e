"""Printed commands: whatever a name is, it arrives as it is, in a shell and in the command."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner import terminal

PACKAGE = Path(terminal.__file__).parent
ODD = st.text(st.sampled_from("a1 '\"\\$`(){}[]=,;&|<>#~*?!%:@+-./é数😀\t\n\x1b\u202e\udcff"), min_size=1, max_size=30)
ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60)


def as_a_shell_hears(line, folder):
    """The words of a printed command, as sh gives them to `python`."""
    stub = folder / "python"
    if not stub.exists():
        stub.write_text('#!/bin/sh\nshift 2\nprintf "%s\\0" "$@"\n')
        stub.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", os.fsencode(line)], capture_output=True, env={"PATH": f"{folder}:/bin:/usr/bin"}, check=True
    )
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD | ANY, min_size=1, max_size=4))
def test_a_printed_command_pastes_into_a_shell(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp()
    assert as_a_shell_hears(terminal.command("export", *names), folder) == ["export", *names]


@settings(max_examples=60, deadline=None)
@given(ODD | ANY)
def test_a_printed_override_is_taken_by_the_command(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    [word] = as_a_shell_hears(f"python -m runner {terminal.pasted('hydra.run.dir', name)}", folder)
    assert word == terminal.override("hydra.run.dir", name)


@given((ODD | ANY).filter(lambda text: "\udcff" not in text and "\n" not in text and "\r" not in text))
def test_an_override_has_the_value_that_it_was_made_of(name):
    [parsed] = OverridesParser.create().parse_overrides([terminal.override("x", name)])
    value = parsed.value()
    assert OmegaConf.to_container(OmegaConf.create({"x": str(value)}), resolve=True) == {"x": name}


@pytest.mark.parametrize(
    "name", ["true", "null", "1", "1e3", "2024_01", "-x", "a,b", "[x]", "{a:1}", "x y", "choice(a,b)"]
)
def test_an_override_keeps_texts_that_look_like_something_else(name):
    [parsed] = OverridesParser.create().parse_overrides([terminal.override("x", name)])
    assert not parsed.is_sweep_override()
    assert str(parsed.value()) == name


@given(st.text())
def test_what_is_shown_is_on_one_line_and_can_be_written(name):
    shown = terminal.printable(name)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/b]", "[red]", ":smile:", "[link=http://x]y[/link]"])
def test_a_name_is_never_markup(name, capsys):
    from rich.table import Table

    table = Table()
    table.add_column(name)
    table.add_row(name, style="bold")
    terminal.screen().print(name)
    terminal.screen().print(table)
    assert capsys.readouterr().out.count(name) == 3


@pytest.mark.parametrize("name", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp.exe", "a\bb"])
def test_a_terminal_obeys_no_name(name, capsys):
    from rich.table import Table

    table = Table(name)
    table.add_row(terminal.styled(name, "bold"))
    terminal.screen().print(name, table)
    terminal.say(name)
    shown = capsys.readouterr().out + terminal.command("eval", name, "two\nlines")
    assert terminal.visible(shown) == shown


def literals(source):
    """Line and text of the parts of every f-string in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for part, following in zip(node.values, [*node.values[1:], None], strict=True):
                if isinstance(part, ast.Constant) and isinstance(following, ast.FormattedValue):
                    yield node.lineno, str(part.value)


def test_only_one_module_puts_names_into_commands():
    """Commands with a name in them, and overrides that are to be repeated with one, are made where they are quoted."""
    keys = ("hydra.run.dir=", "hydra.sweep.dir=", "checkpoint.init_from=", "checkpoint.resume=")
    found = [
        f"{path.relative_to(PACKAGE)}:{line} {text!r}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "terminal.py"
        for line, text in literals(path.read_text())
        if text.endswith(keys) or "python -m runner " in text.rpartition("\n")[2]
    ]
    found += [
        f"{path.name}: {text}"
        for path in PACKAGE.rglob("templates/*")
        for text in path.read_text().splitlines()
        if "python -m runner" in text
    ]
    assert not found


def test_only_one_module_makes_a_console():
    found = [
        path.name for path in PACKAGE.rglob("*.py") if "Console(" in path.read_text() and path.name != "terminal.py"
    ]
    assert not found


def test_one_thing_is_singular():
    assert [terminal.counted(count, "epoch") for count in (0, 1, 2, 3000)] == [
        "0 epochs",
        "1 epoch",
        "2 epochs",
        "3,000 epochs",
    ]
    assert [terminal.counted(count, "epoch") for count in (0.5, 1.0, 2.0)] == ["0.5 epochs", "1 epoch", "2 epochs"]
    assert [terminal.counted(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]
    assert [terminal.word_for(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]
    assert terminal.images_of({"train": 2000, "test": 1}) == "2,000 train, 1 test image"
    assert [terminal.images_of({"test": 5}), terminal.images_of({})] == ["5 test images", "no images"]


#: A number in a text of Python, `{len(of[0]):,}`, or of a template, `{{ of | length }}`, before a plural.
PLURAL = re.compile(
    r"(?P<number>\{\{[^{}]*\}\}|\{(?:[^{}]|\{[^{}]*\})*\}) (?:(?:test|training|train|validation) )?"
    r"(?:images|pictures|predictions|steps|epochs|validations|layers|tensors|runs|trials|classes)\b"
)
#: Numbers before a plural that are never one.
SEVERAL = {
    "{FEW}": "a constant",
    "{number + 1} of {len(layers)}": "said of every tenth",
    "{number + 1} of {len(names)}": "said of every twentieth",
    "{k + 1}": "top-k of at least one class",
    "one of the {classes}": "a label of a network's classes",
    "{len(plain)}": "several pictures of one name",
    "{labels.shape[1]}": "several labels an image",
    "{', '.join(map(str, DEPTHS))}": "a list",
    "{measured_on}": "the name of a split",
    "{distance:.2f}": "a distance",
    "{values['train/images_per_s']:,.0f}": "a speed",
}


def test_plurals_are_found_in_every_spelling():
    for text in (
        "{count} images",
        "{len(x)} epochs",
        "{x['a']:,} test images",
        "{f'{x}'} runs",
        "{{ x | length }} steps",
    ):
        assert PLURAL.search(text), text
    for text in ("{counted(x, 'image')}", "{split} image", '{{ x | counted("run") }}', "{a} of {b}"):
        assert not PLURAL.search(text), text


def test_no_number_before_a_plural_is_written_without_counting():
    """`counted` knows the singular; a number of these nouns in an f-string would say "1 predictions"."""
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("templates/*.html"), *PACKAGE.rglob("templates/*.md"))
        for line in path.read_text().splitlines()
        for match in PLURAL.finditer(line)
        if not any(line[: match.end("number")].endswith(number) for number in SEVERAL)
    ]
    assert not found


def test_words_that_agree_with_a_number_are_chosen_in_one_place():
    by_hand = re.compile(r"""if [^{}]* == 1 else ["'](?:are|have|were|do|s|es)["']|["']e?s["'] \* \([^()]* != 1\)""")
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("templates/*"))
        for line in path.read_text().splitlines()
        if by_hand.search(line)
    ]
    assert not found
