"""What is written, replaced and removed: only what this package wrote, and a reader never sees half of it."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner import files
from runner.errors import ForeignPath
from runner.files.digests import digest_of, text_digest

PACKAGE = Path(runner.__file__).parent
#: What removes or renames: as functions of modules, and as methods of paths.
FUNCTIONS = {
    "os": {"remove", "unlink", "rmdir", "removedirs", "rename", "renames", "replace"},
    "shutil": {"rmtree", "move", "copytree"},
}
METHODS = {"unlink", "rmdir", "rename"}


def changes(source):
    """Line and name of everything in a module that removes, renames or replaces a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in METHODS or node.attr in FUNCTIONS.get(owner, ()):
                yield node.lineno, node.attr
        if isinstance(node, ast.ImportFrom) and node.module in FUNCTIONS:
            yield from ((node.lineno, name.name) for name in node.names if name.name in FUNCTIONS[node.module])
        # Of a text it takes two arguments, of a path one.
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if is_call and node.func.attr == "replace" and len(node.args) == 1 and not node.keywords:
            yield node.lineno, "replace"


def test_only_one_module_removes_renames_or_replaces():
    found = {
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "files" / "__init__.py"
        for line, name in changes(path.read_text())
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import shutil\nshutil.rmtree(x)",
        "from os import remove",
        "Path(x).unlink()",
        "a.replace(b)",
        "x(shutil.rmtree)",
    ],
)
def test_that_check_sees_what_it_is_for(source):
    assert list(changes(source))


def written(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_named_files_are_removed_and_what_else_is_there_stays(tmp_path):
    folder = written(tmp_path / "export", "model.json", "paddle/model.json", "mine.txt", "paddle/notes.txt")
    assert not files.remove_named(folder, ["model.json", "paddle/model.json", "model.onnx"])
    assert listed(folder) == {"mine.txt", "paddle/notes.txt"}


def test_a_folder_of_named_files_alone_is_removed(tmp_path):
    folder = written(tmp_path / "export", "model.json", "paddle/model.json")
    assert files.remove_named(folder, ["model.json", "paddle/model.json"])
    assert not folder.exists()


def test_no_link_is_followed_where_files_are_removed(tmp_path):
    theirs = written(tmp_path / "theirs", "model.json", "paddle/model.json")
    (tmp_path / "export").symlink_to(theirs)
    own = written(tmp_path / "own", "model.json")
    (own / "paddle").symlink_to(theirs / "paddle")
    files.remove_named(tmp_path / "export", ["model.json"])
    files.remove_named(own, ["model.json", "paddle/model.json"])
    assert listed(theirs) == {"model.json", "paddle/model.json"}


def replace(target, names=("state.json", "model.bin")):
    with files.partial_folder(target) as partial:
        written(partial, *names)
        files.put_in_place(partial, target, "state.json", names)


def test_a_folder_with_our_mark_is_replaced_and_what_else_is_in_it_stays(tmp_path):
    target = written(tmp_path / "step", "state.json", "notes.txt", "own/x")
    replace(target)
    assert listed(tmp_path) == {"step/state.json", "step/model.bin", "step/notes.txt", "step/own/x"}


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_ours_is_not_replaced(tmp_path, kind):
    target = tmp_path / "step"
    theirs = written(tmp_path / "theirs", "x")
    match kind:
        case "folder":
            written(target, "x")
        case "file":
            target.write_text("x")
        case "link":
            target.symlink_to(theirs)
    before = listed(tmp_path)
    with pytest.raises(ForeignPath, match="step"):
        replace(target)
    assert listed(tmp_path) == before


def test_what_was_superseded_by_a_killed_process_stays_as_long_as_it_has_anything_of_others(tmp_path):
    written(tmp_path, "step/state.json", "step.old/state.json", "step.old/notes.txt")
    replace(tmp_path / "step")
    assert listed(tmp_path) == {"step/state.json", "step/model.bin", "step.old/notes.txt"}


def test_what_killed_processes_left_is_removed_and_nothing_that_looks_alike(tmp_path):
    written(tmp_path, f".step.7.part/{files.PARTIAL}", ".step.7.part/model.bin", ".last.7.part")
    theirs = {".theirs.part/x", ".notes.part", "x.7.part"}
    written(tmp_path, *theirs)
    files.remove_partials(tmp_path)
    assert listed(tmp_path) == theirs


def test_a_file_that_is_being_written_is_not_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / f".result.json.{os.getpid()}.part").symlink_to(tmp_path / "theirs")
    files.write_json(tmp_path / "result.json", {})
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "result.json").is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "..",
        "",
        ".",
        "/",
        "a\0b",
        "..\\x",
        None,
        7,
        ["a"],
        "link",
        "link/x",
        "a/link/x",
    ],
)
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    with pytest.raises(ForeignPath):
        files.inside(tmp_path, name)


@given(st.text() | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "\0", "~", " "])).map("/".join))
def test_whatever_a_name_is_its_path_is_below_the_folder(name):
    folder = Path("/some/where")
    try:
        path = files.inside(folder, name)
    except ForeignPath:
        return
    assert folder in Path(os.path.normpath(path)).parents


def test_links_anywhere_below_a_folder_are_found(tmp_path):
    written(tmp_path, "a/b/c")
    files.refuse_links(tmp_path)
    (tmp_path / "a" / "b" / "link").symlink_to("c")
    with pytest.raises(ForeignPath, match="link"):
        files.refuse_links(tmp_path)
    with pytest.raises(ForeignPath, match="link"):
        list(files.contents(tmp_path))


def test_a_file_of_another_program_is_not_overwritten(tmp_path):
    path = tmp_path / "report.html"
    files.refuse_overwriting(path, "mark")
    path.write_text("<html mark>")
    files.refuse_overwriting(path, "mark")
    path.write_text("<html>")
    with pytest.raises(ForeignPath, match=r"report\.html"):
        files.refuse_overwriting(path, "mark")


@pytest.mark.parametrize("name", ["x" * 255, "数" * 85])
def test_a_file_may_have_the_longest_name_there_is(tmp_path, name):
    files.write_text(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_digest_is_of_any_text_bytes_of_a_name_that_are_not_text_included():
    texts = ["caf\xe9", os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8"), "数", "\ud800", ""]
    assert len({text_digest(text) for text in texts}) == len(texts)
    assert text_digest("cat") == "3327dd2c7b9d982f"
    assert digest_of(["c", b"a", np.frombuffer(b"t", np.uint8)]) == text_digest("cat")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_has_a_files_name_and_is_none_is_not_written_to(tmp_path, make):
    assert files.refuse_irregular(tmp_path / "new.log") == tmp_path / "new.log"
    make(tmp_path / "train.log")
    with pytest.raises(ForeignPath, match=r"train\.log is not a regular file"):
        files.refuse_irregular(tmp_path / "train.log")
