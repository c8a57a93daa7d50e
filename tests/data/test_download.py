from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from runner.data.download import OfficialFile, fetch, require
from runner.errors import DataError

CONTENT = b"the official file" * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """The address of a real server that publishes `set.gz`."""
    published = tmp_path / "published"
    published.mkdir()
    (published / "set.gz").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=published)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def official(home: str, md5: str | None = None, name: str = "set.gz") -> OfficialFile:
    return OfficialFile(name, f"{home}/{name}", md5 or hashlib.md5(CONTENT).hexdigest())


def test_a_missing_file_is_fetched_when_the_user_says_so(tmp_path: Path, home: str) -> None:
    require(tmp_path / "root", [official(home)], download=True)
    assert (tmp_path / "root" / "set.gz").read_bytes() == CONTENT


def test_a_missing_file_is_not_fetched_silently(tmp_path: Path, home: str) -> None:
    with pytest.raises(DataError, match=r"set\.gz is missing.*data\.download=true"):
        require(tmp_path / "root", [official(home)], download=False)
    assert not (tmp_path / "root").exists()


def test_a_file_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "set.gz").write_bytes(b"mine")
    require(tmp_path, [official("http://127.0.0.1:1")], download=True)
    assert (tmp_path / "set.gz").read_bytes() == b"mine"


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path, home: str) -> None:
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"set\.gz arrived damaged: MD5"):
        fetch(official(home, md5="0" * 32), root)
    assert list(root.iterdir()) == []


def test_a_file_that_is_not_published_names_the_address_and_the_place(tmp_path: Path, home: str) -> None:
    with pytest.raises(DataError, match=r"other\.gz cannot be fetched: .*404.*by hand to"):
        fetch(official(home, name="other.gz"), tmp_path / "root")


class Breaking(Quiet):
    """Sends some bytes of what it promised and hangs up; the rest where it is asked for that."""

    asked: ClassVar[list[str | None]] = []
    sends = 5000
    tag = '"one"'

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.headers.get("If-Range") not in (None, self.tag):
            wanted, start = None, 0
        self.send_response(206 if wanted else 200)
        if self.tag:
            self.send_header("ETag", self.tag)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + self.sends])


@pytest.fixture
def breaking() -> Iterator[str]:
    """The address of a real server whose connections end in the middle of a file."""
    Breaking.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path, breaking: str) -> None:
    told: list[tuple[int, int]] = []
    fetch(official(breaking), tmp_path, lambda done, count: told.append((done, count)))
    assert (tmp_path / "set.gz").read_bytes() == CONTENT
    assert Breaking.asked == [None, "bytes=5000-", "bytes=10000-", "bytes=15000-"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["set.gz"]


def test_one_that_keeps_breaking_off_says_what_is_kept_and_the_next_command_goes_on(
    tmp_path: Path, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "sends", 1000)
    with pytest.raises(DataError, match=r"ended after 4,000 of 17,000 bytes.*4,000 bytes of it are kept.*by hand to"):
        fetch(official(breaking), tmp_path)
    monkeypatch.setattr(Breaking, "sends", 20000)
    fetch(official(breaking), tmp_path)
    assert (tmp_path / "set.gz").read_bytes() == CONTENT
    assert Breaking.asked[-1] == "bytes=4000-"


class Busy(Quiet):
    """Answers some requests before it sends the file."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.answers:
            self.send_response(self.answers.pop(0))
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        super().do_GET()


class Shifted(Quiet):
    """Sends another part than the one it is asked for."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)


@contextlib.contextmanager
def serving(handler: Callable[..., Quiet]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("answers", [[503], [429, 502, 500]])
def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, answers: list[int]) -> None:
    (tmp_path / "set.gz").write_bytes(CONTENT)
    Busy.answers = [*answers]
    with serving(partial(Busy, directory=tmp_path)) as home:
        fetch(official(home), tmp_path / "root")
    assert (tmp_path / "root" / "set.gz").read_bytes() == CONTENT


def test_one_that_stays_busy_is_named(tmp_path: Path) -> None:
    Busy.answers = [503] * 10
    with serving(partial(Busy, directory=tmp_path)) as home, pytest.raises(DataError, match="cannot be fetched: .*503"):
        fetch(official(home), tmp_path / "root")
    assert len(Busy.answers) == 6


def test_another_part_than_the_one_wanted_is_not_appended(tmp_path: Path) -> None:
    (tmp_path / ".set.gz.download").write_bytes(CONTENT[:100])
    with serving(Shifted) as home:
        fetch(official(home), tmp_path)
    assert (tmp_path / "set.gz").read_bytes() == CONTENT


def test_a_complete_file_that_its_user_refuses_is_not_kept(tmp_path: Path, home: str) -> None:
    def refuse(path: Path) -> None:
        raise ValueError(f"it has {path.stat().st_size} bytes")

    with pytest.raises(DataError, match=r"answered with something else: it has 17000 bytes"):
        fetch(unchecked(home), tmp_path / "root", check=refuse)
    assert list((tmp_path / "root").iterdir()) == []


def test_a_kept_part_of_another_file_is_begun_again(tmp_path: Path, home: str) -> None:
    (tmp_path / ".set.gz.download").write_bytes(b"x" * 2 * len(CONTENT))
    fetch(official(home), tmp_path)
    assert (tmp_path / "set.gz").read_bytes() == CONTENT


def test_a_server_that_is_down_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(official("http://127.0.0.1:1"), root)
    assert list(root.iterdir()) == []


def unchecked(home: str) -> OfficialFile:
    return OfficialFile("set.gz", f"{home}/set.gz", None)


@pytest.mark.parametrize("tag", ['"two"', "", 'W/"two"'])
def test_parts_of_two_versions_are_never_joined(
    tmp_path: Path, breaking: str, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.setattr(Breaking, "sends", 1000)
    with pytest.raises(DataError, match="are kept"):
        fetch(unchecked(breaking), tmp_path)
    part = next(path for path in tmp_path.iterdir() if path.name.endswith(".download"))
    part.write_bytes(b"older" * 100)
    monkeypatch.setattr(Breaking, "tag", tag)
    monkeypatch.setattr(Breaking, "sends", 20000)
    fetch(unchecked(breaking), tmp_path)
    assert (tmp_path / "set.gz").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["set.gz"]


def test_a_server_without_names_for_versions_sends_a_file_without_a_checksum_whole(
    tmp_path: Path, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "tag", "")
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(unchecked(breaking), tmp_path)
    assert set(Breaking.asked) == {None}
    fetch(official(breaking), tmp_path)
    assert Breaking.asked[-1] == "bytes=15000-"


def test_a_connection_that_breaks_off_in_the_middle_of_chunks_is_one_message(tmp_path: Path) -> None:
    class Chunked(Quiet):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"1000\r\n" + CONTENT[:100])
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Chunked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(DataError, match="cannot be fetched: IncompleteRead"):
                fetch(official(f"http://127.0.0.1:{server.server_port}"), tmp_path)
        finally:
            server.shutdown()
            thread.join()
