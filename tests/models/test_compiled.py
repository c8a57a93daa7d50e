"""Compiled libraries: kept once, made again where they are damaged, made for one process where nothing can be kept."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import processes
from runner.errors import ConfigError
from runner.kernels import build, native
from runner.models.ops import compile as operator
from runner.models.ops import compiled

#: The library of the other tests.
WHOLE = None if native.unavailable() else build.library()
CONTENT = bytes(range(256)) * 16
each_in_the_same_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "runner"


class Loading:
    """Loads a library of some bytes, and counts how often it is built."""

    def __init__(self):
        self.built = 0

    def __call__(self):
        return compiled.load("library.so", self.build, self.open)

    def build(self, path):
        self.built += 1
        path.write_bytes(CONTENT)

    @staticmethod
    def open(path):
        content = path.read_bytes()
        assert content.startswith(CONTENT)
        return path


def test_a_library_is_built_once(cache):
    load = Loading()
    assert load() == load() == cache / "library.so"
    assert load.built == 1
    assert sorted(path.name for path in cache.iterdir()) == ["library.lock", "library.so"]


@each_in_the_same_folder
@given(st.data())
def test_a_damaged_library_is_built_again(cache, data):
    load = Loading()
    path = load()
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.one_of(
            st.just(whole[:place]),
            st.just(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]),
            st.binary(max_size=100).map(lambda rest: whole + rest).filter(lambda content: content != whole),
            st.binary(max_size=100),
        )
    )
    path.write_bytes(damaged)
    load.built = 0
    assert load().read_bytes() == whole
    assert load.built == 1


@pytest.mark.parametrize("there", ["fifo", "huge", "dangling link", "unreadable"])
def test_what_is_no_library_is_replaced(cache, there):
    cache.mkdir(parents=True)
    path = cache / "library.so"
    match there:
        case "fifo":
            os.mkfifo(path)
        case "huge":
            path.touch()
            os.truncate(path, 1 << 40)
        case "dangling link":
            path.symlink_to(cache / "elsewhere")
        case "unreadable":
            path.write_bytes(b"x")
            path.chmod(0)
    load = Loading()
    assert load() == path
    assert path.read_bytes().startswith(CONTENT)
    assert not (cache / "elsewhere").exists()


@pytest.mark.parametrize("there", ["a file for the folder", "a folder for the library", "a folder for the lock"])
def test_where_nothing_can_be_kept_a_process_builds_for_itself(cache, there, caplog):
    match there:
        case "a file for the folder":
            cache.write_text("")
        case "a folder for the library":
            (cache / "library.so" / "x").mkdir(parents=True)
        case "a folder for the lock":
            (cache / "library.lock").mkdir(parents=True)
    load = Loading()
    assert not load().exists()
    [said] = caplog.messages
    assert str(cache) in said
    assert "XDG_CACHE_HOME" in said


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_a_relative_cache_folder_counts_as_none(monkeypatch, tmp_path, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert Loading()() == tmp_path / "home/.cache/runner/library.so"
    assert not (tmp_path / "relative").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
@pytest.mark.parametrize("home", [{}, {"HOME": "/"}], ids=["unset", "root"])
def test_a_user_without_a_home_builds_for_himself(home):
    code = (
        "import os; os.setuid(12345)\n"
        "print(compiled.load('x.so', lambda path: path.write_bytes(b'y'), lambda path: path.read_bytes()))"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")} | home
    code = f"from runner.models.ops import compiled\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "b'y'\n", done.stderr
    assert "XDG_CACHE_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_that_is_never_given_back_is_named_and_waited_for_for_a_while(cache, monkeypatch, caplog):
    cache.mkdir(parents=True)
    monkeypatch.setattr(processes, "NOTE_S", 0.1)
    monkeypatch.setattr(compiled, "PATIENCE_S", 0.3)
    load = Loading()
    with (cache / "library.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not load().exists()
    assert all(str(cache / "library.lock") in said for said in caplog.messages)
    assert ["Waiting" in said for said in caplog.messages] == [True, False]
    assert load.built == 1


def test_processes_that_come_at_once_build_once(cache):
    load, both = Loading(), threading.Barrier(4)

    def at_once(_number):
        both.wait()
        return load()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(at_once, range(4))) == {cache / "library.so"}
    assert load.built == 1


def test_what_the_builder_says_is_heard(cache):
    def fail(path):
        raise ConfigError("no compiler")

    with pytest.raises(ConfigError, match="no compiler"):
        compiled.load("library.so", fail, Loading.open)
    assert [path.name for path in cache.iterdir()] == ["library.lock"]


@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
def test_kernels_cut_in_half_are_not_loaded_but_made_again(cache, monkeypatch):
    whole = Path(WHOLE._name).read_bytes()
    monkeypatch.setattr(build, "_compile", lambda path: path.write_bytes(whole))
    kept = (build.library, native.kernels, native.unavailable)
    try:
        path = cache / f"kernels-{build.key()}.so"
        cache.mkdir(parents=True)
        path.write_bytes(whole[: len(whole) // 2])
        for cached in kept:
            cached.cache_clear()
        assert native.unavailable() == ""
        assert path.read_bytes().startswith(whole)
    finally:
        for cached in kept:
            cached.cache_clear()


@pytest.mark.parametrize("value", ["'", "  ", "no-such-compiler -O3"])
def test_a_compiler_that_cannot_be_started_is_none(monkeypatch, value):
    monkeypatch.setenv("CXX", value)
    assert processes.compiler() == ([] if value.strip() else processes.compiler())
    if value.strip():
        with pytest.raises(ConfigError, match="is not on PATH"):
            operator._compiler()
