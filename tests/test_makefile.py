"""What `make` installs for which target, and that a step that failed is done again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: A Python that writes down what it is asked for, makes environments of itself, and fails where it is told to.
PYTHON = """#!/bin/sh
case "$*" in
    *"$FAIL"*) echo "failed: $*" >&2; exit 1;;
    --version) echo "Python 3.11.7";;
    "-m venv"*) mkdir -p .venv/bin; for name in python ruff mypy; do cp "$0" .venv/bin/$name; done;;
    "-m pip --version");;
    *) echo "$*" >> asked;;
esac
"""
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def make(tmp_path):
    """`make(target, fail="…")` in a folder with the Makefile alone → the process, and what Python was asked for."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    stub = tmp_path / "python-stub"
    stub.write_text(PYTHON)
    stub.chmod(0o755)

    def run(target, fail="nothing at all"):
        asked = tmp_path / "asked"
        asked.unlink(missing_ok=True)
        # Variables of a `make test` that runs these tests are not this one's.
        outer = {"MAKEFLAGS": "", "ARGS": ""}
        done = subprocess.run(
            ["make", target, f"PYTHON={stub}"],
            cwd=tmp_path, capture_output=True, text=True, env=os.environ | outer | {"FAIL": fail},
        )  # fmt: skip
        return done, [line.rstrip() for line in asked.read_text().splitlines()] if asked.exists() else []

    return run


def installed(asked):
    return [line.partition("-e ")[2] for line in asked if line.startswith("-m pip install")]


def test_running_installs_what_running_needs_once_and_says_so(make):
    done, asked = make("run")
    assert done.returncode == 0, done.stderr
    assert installed(asked) == [".[cpu]"]
    assert asked[-1] == "-m runner experiment=digits/best"
    for said in ("Using Python 3.11.7", "Creating .venv", "Installing what running needs", "Compiling the kernels"):
        assert said in done.stdout
    assert make("run")[1] == ["-m runner experiment=digits/best"]


def test_testing_adds_the_development_extras_once(make):
    make("run")
    assert installed(make("test")[1]) == [".[cpu] -e .[dev]"]
    assert installed(make("test")[1]) == []


@pytest.mark.parametrize("step", ["-m venv", "-m pip install", "-m runner kernels"])
def test_a_step_that_fails_ends_make_and_is_done_again(make, step):
    done, _ = make("run", fail=step)
    assert done.returncode != 0
    assert f"failed: {step}" in done.stderr
    done, asked = make("run")
    assert done.returncode == 0, done.stderr
    assert installed(asked) == [".[cpu]"]


def test_development_extras_that_fail_leave_running_as_it_is(make):
    make("run")
    done, _ = make("test", fail=".[dev]")
    assert done.returncode != 0
    assert make("run")[1] == ["-m runner experiment=digits/best"]
    assert installed(make("test")[1]) == [".[cpu] -e .[dev]"]


def test_every_program_among_the_benchmarks_is_run():
    text = (ROOT / "Makefile").read_text()
    listed = re.search(r"^BENCHMARKS := ((?:.*\\\n)*.*)$", text, re.MULTILINE)[1].replace("\\", "").split()
    texts = {path.stem: path.read_text() for path in (ROOT / "benchmarks").glob("*.py")}
    programs = [name for name, text in texts.items() if "__main__" in text and 'add_argument("export"' not in text]
    assert sorted(listed) == sorted(programs)


@pytest.mark.parametrize("target", ["run", "test-gpu"])
def test_without_a_python_that_works_it_is_said_how_to_name_one(tmp_path, target):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    environment = os.environ | {"MAKEFLAGS": "", "ARGS": ""}
    done = subprocess.run(
        ["make", target, "PYTHON="], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode != 0
    assert "Name one: make PYTHON=/path/to/python" in done.stdout


def test_every_test_that_needs_a_peer_is_among_those_that_install_the_peers():
    peers = re.search(r"^PEERS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert all((ROOT / path).exists() for path in peers)
    needing = [
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r'importorskip\("torch"\)|find_spec\("paddleclas"\)', path.read_text())
    ]
    assert needing
    assert [path for path in needing if not any(path.is_relative_to(peer) for peer in peers)] == []


def test_what_tries_every_combination_has_the_peers():
    rules = re.findall(r"^(\S+): (.*)\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    trying = {target: needs for target, needs, commands in rules if "RUNNER_EVERY_COMBINATION" in commands}
    assert trying == {"test-matrix": "$(BESIDE)/.installed"}
