"""Where no home folder can be written, the processes of a run get a temporary one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import device


@pytest.fixture(autouse=True)
def asked_anew():
    kept = (device.home, device._temporary)
    for cached in kept:
        cached.cache_clear()
    yield
    for cached in kept:
        cached.cache_clear()


@pytest.mark.parametrize("there", ["", device.TRACED])
def test_a_home_that_can_be_written_is_left_as_it_is(monkeypatch, tmp_path, there):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    assert device.home() == {}


@pytest.mark.parametrize("what", [".", ".cache", ".cache/paddle"])
def test_a_home_that_cannot_be_written_is_named_and_replaced(monkeypatch, tmp_path, caplog, what):
    place = tmp_path / "home"
    monkeypatch.setenv("HOME", str(place))
    (place / what).parent.mkdir(parents=True, exist_ok=True)
    (place / what).write_text("a file where a folder should be")
    assert Path(device.home()["HOME"]).is_dir()
    [said] = caplog.messages
    assert f"The home folder {place} cannot be written" in said


def test_without_a_temporary_folder_either_both_are_named(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(device.tempfile, "tempdir", str(tmp_path / "missing"))
    assert device.home() == {}
    [said] = caplog.messages
    assert "HOME, TMPDIR" in said


def test_passwords_of_servers_stay_where_they_were(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache").write_text("")
    (tmp_path / ".netrc").write_text("machine example.org login ada password secret")
    assert device.home()["NETRC"] == str(tmp_path / ".netrc")
    assert not (Path(device.home()["HOME"]) / ".netrc").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
@pytest.mark.parametrize("given", [{}, {"HOME": "/"}], ids=["unset", "root"])
def test_a_user_that_nobody_knows_gets_a_home_that_is_gone_with_the_command(given):
    code = (
        "import os; from runner import device; os.setuid(12345)\n"
        "given = device.home()['HOME']; print(given); print(os.access(given, os.W_OK))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "HOME"} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    place, writable = done.stdout.splitlines()
    assert writable == "True"
    assert not Path(place).exists()
    assert "home folder" in done.stderr
