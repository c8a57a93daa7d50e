"""The workflow does what a person does with `make`, on the Pythons that the package is for, and may do no more."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps():
    return [
        step for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]
    ]


def test_every_command_is_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in steps() if "run" in step]
    assert {re.fullmatch(r"make (\S+) PYTHON=python", command)[1] for command in commands} == {"lint", "test", "smoke"}
    assert {"lint", "test", "smoke"} <= targets


def test_the_pythons_are_those_of_the_package():
    matrix = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12"]
    assert 'requires-python = ">=3.10,<3.13"' in (ROOT / "pyproject.toml").read_text()


def test_workflows_may_only_read_and_actions_have_a_major_version():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        assert not any("permissions" in job for job in workflow["jobs"].values())
        assert "secrets." not in path.read_text()
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            assert step.get("with", {}).get("persist-credentials") is False or "checkout" not in step["uses"]
