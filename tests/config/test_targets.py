"""Targets of the user are found, or their absence is explained."""

from __future__ import annotations

import sys

import paddle
import pytest

from runner.config.targets import load_target
from runner.errors import ConfigError


def test_a_target_is_found():
    assert load_target("math:sqrt")(4.0) == 2.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_here:f", "there is no module 'no_such_module_here'"),
        ("math:sqroot", "Did you mean 'sqrt'?"),
        ("math:pi", "not a function or class"),
    ],
)
def test_a_target_that_cannot_be_used_is_explained(target, message):
    with pytest.raises(ConfigError) as refused:
        load_target(target)
    assert message in str(refused.value)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [place for place in sys.path if place])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_target_of_the_working_directory_finds_what_lies_beside_it(project):
    (project / "mine").mkdir()
    (project / "mine/losses.py").write_text("from helpers_of_mine import two\ndef loss(): return two()\n")
    (project / "helpers_of_mine.py").write_text("def two(): return 2\n")
    assert load_target("mine.losses:loss")() == 2


def test_a_target_of_the_working_directory_comes_before_an_installed_package_of_its_name(project):
    (project / "colorsys.py").write_text("def loss(): return 3\n")
    sys.modules.pop("colorsys", None)
    assert load_target("colorsys:loss")() == 3


def test_what_a_target_imports_is_not_taken_from_the_working_directory_where_it_is_installed(project):
    sys.modules.pop("colorsys", None)
    (project / "colorsys.py").write_text("raise SystemExit('the wrong one')\n")
    (project / "mine_too.py").write_text("import colorsys\nloss = colorsys.rgb_to_hsv\n")
    assert load_target("mine_too:loss")(1, 1, 1) == (0.0, 0.0, 1)


def test_a_target_that_fails_while_it_is_imported_says_so_each_time(project):
    (project / "broken_of_mine.py").write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_target("broken_of_mine:loss")


def test_what_a_target_does_to_paddles_defaults_is_undone(project):
    (project / "sets_of_mine.py").write_text(
        "import paddle\n"
        "paddle.set_default_dtype('float64')\n\n"
        "def build():\n"
        "    dtype = paddle.zeros([1]).dtype\n"
        "    paddle.set_default_dtype('float16')\n"
        "    paddle.enable_static()\n"
        "    return dtype\n"
    )
    build = load_target("sets_of_mine:build")
    assert paddle.get_default_dtype() == "float32"
    for _ in range(2):
        assert build() == paddle.float32
        assert paddle.get_default_dtype() == "float32"
        assert paddle.in_dynamic_mode()
