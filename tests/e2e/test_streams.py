"""Standard streams that are closed, full, small or left: a run ends as without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import TINY

COMMAND = f"{sys.executable} -m runner"


def shell(line, cwd, **environment):
    """A line of sh, as a user writes it."""
    return subprocess.run(
        ["sh", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | environment
    )


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full 2>&1", "| true"])
def test_a_run_ends_well_whatever_becomes_of_its_output(tmp_path, streams):
    words = " ".join([*TINY, "tracking=none", "hydra.run.dir=run"])
    status = "" if "|" in streams else "; echo $? > code"
    shell(f"{COMMAND} {words} {streams} {status}", tmp_path)
    assert (tmp_path / "run" / "result.json").is_file()
    if status:
        assert (tmp_path / "code").read_text() == "0\n"
    # Nothing that was to be shown went into a file that had the number of a closed stream.
    assert "test top-1" not in (tmp_path / "run" / "train.log").read_text()
    assert (tmp_path / "run" / "ranks" / "lock").read_bytes() == b""


@pytest.mark.parametrize("verb", ["--help", "--version", "runs .", "config", "runs --help", "--cfg job"])
def test_a_verb_that_cannot_show_what_it_is_for_says_so(tmp_path, verb):
    done = shell(f"{COMMAND} {verb} > /dev/full", tmp_path)
    assert done.returncode == 3
    assert done.stderr == "The standard output cannot be written: No space left on device.\n"


@pytest.mark.smoke
@pytest.mark.parametrize("line", ["{} --help | head -1", "{} config | true", "{} --help >&-", "{} config 2>&-"])
def test_a_reader_that_leaves_is_no_error(tmp_path, line):
    done = shell(f"({line.format(COMMAND)}; true)", tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""


def test_an_alphabet_without_a_character_gets_it_escaped(tmp_path):
    done = shell(f"{COMMAND} config \"name='数据'\"", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    shown = done.stdout + done.stderr
    assert shown.isascii()
    assert "\\u6570\\u636e" in shown


@pytest.mark.smoke
def test_json_stays_json_where_characters_are_escaped(tmp_path):
    program = (
        "from runner.terminal import protect_streams; import json; protect_streams(); "
        "print(json.dumps('é数😀', ensure_ascii=False))"
    )
    done = shell(f'{sys.executable} -c "{program}"', tmp_path, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout) == "é数😀"
