"""Shards that are elsewhere, by fsspec: on a server on loopback, and in fsspec's own memory."""

from __future__ import annotations

import http.server
import sys
import threading

import pytest

from runner import config as cfg
from runner import data
from runner.data import shards, storage
from runner.errors import DataError

from . import layouts

NAMES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
PICTURES = layouts.drawn(NAMES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "PAUSES", (0.01,))


class Server:
    """A server of a folder that answers requests for parts of files, or not, and can fail."""

    def __init__(self, folder):
        self.folder, self.requests, self.failures, self.parts = folder, [], 0, True
        (folder / "set").mkdir()

    def answer(self, handler):
        self.requests.append((handler.path, handler.headers["Range"]))
        path = self.folder / handler.path.lstrip("/")
        if self.failures:
            self.failures -= 1
            handler.send_error(503)
            return
        if not path.is_file():
            handler.send_error(404)
            return
        content, asked = path.read_bytes(), handler.headers["Range"]
        size = len(content)
        handler.send_response(206 if asked and self.parts else 200)
        if asked and self.parts:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            end = min(int(end or size), size - 1)
            content = content[int(begin) : end + 1]
            handler.send_header("Content-Range", f"bytes {begin}-{end}/{size}")
        if self.parts:
            handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("fsspec")
    state = Server(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            state.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{serving.server_port}/set"
        yield state
        serving.shutdown()


def loaded(root, train, **changes):
    return shards.load(cfg.Shards(root=root, train=train, **{"test_fraction": 0.0, **changes}))


def read(split):
    return {split.pictures.names[place]: split.pictures.read(place) for place in range(len(split))}


def test_archives_on_a_server_are_read_in_parts_and_indexed_once(server, tmp_path):
    layouts.write_tars(tmp_path / "set", PICTURES, 3)
    assert read(loaded(server.url, "set-{000..002}.tar").train) == PICTURES
    server.requests.clear()
    split = loaded(server.url, "set-{000..002}.tar").train
    assert {asked for _, asked in server.requests} <= {None}
    split.pictures.read(3)
    place, length = split.pictures.places[3], split.pictures.lengths[3]
    assert server.requests[-1] == (
        f"/set/set-{split.pictures.numbers[3]:03}.tar",
        f"bytes={place}-{place + length - 1}",
    )


def test_a_shard_that_changes_on_a_server_is_indexed_again(server, tmp_path):
    layouts.write_tars(tmp_path / "set", PICTURES, 1)
    loaded(server.url, "set-000.tar")
    changed = {name: content + b"more" for name, content in PICTURES.items()}
    layouts.write_tars(tmp_path / "set", changed, 1)
    assert read(loaded(server.url, "set-000.tar").train) == changed


def test_parquet_on_a_server_is_read(server, tmp_path):
    layouts.write_parquet(tmp_path / "set/a.parquet", PICTURES)
    assert read(loaded(server.url, "a.parquet").train) == PICTURES


def test_worker_processes_read_from_a_server(server, tmp_path):
    layouts.write_tars(tmp_path / "set", PICTURES, 3)

    def epoch(workers):
        config = cfg.Shards(root=server.url, train="set-{000..002}.tar", image_size=4, batch_size=2, workers=workers)
        return [batch.images.numpy().tobytes() for batch in data.build(config, 0).train.epoch(0)]

    assert epoch(2) == epoch(0)


def test_a_read_that_fails_once_is_tried_again_and_one_that_keeps_failing_named(server, tmp_path):
    layouts.write_tars(tmp_path / "set", PICTURES, 1)
    split = loaded(server.url, "set-000.tar").train
    server.failures = 1
    assert split.pictures.read(0) == PICTURES["cat/0.png"]
    server.failures = 2
    with pytest.raises(DataError, match="set-000.tar cannot be read: .*503"):
        split.pictures.read(0)


def test_a_server_that_answers_no_requests_for_parts_is_told(server, tmp_path):
    layouts.write_tars(tmp_path / "set", PICTURES, 1)
    split = loaded(server.url, "set-000.tar").train
    server.parts = False
    with pytest.raises(DataError, match="does not support range requests"):
        split.pictures.read(0)


def test_a_missing_shard_on_a_server_is_named(server):
    with pytest.raises(DataError, match="nothing.tar cannot be read"):
        loaded(server.url, "nothing.tar")


def test_any_storage_of_fsspec_is_read_and_searched(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    layouts.write_tars(tmp_path / "set", PICTURES, 3)
    for path in (tmp_path / "set").iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    assert read(loaded("memory://bucket", "set-*.tar").train) == PICTURES
    with pytest.raises(DataError, match="names no shards"):
        loaded("memory://bucket", "other-*.tar")


@pytest.mark.parametrize("url", ["nonsense://bucket/a.tar", "s3://bucket/a.tar"])
def test_a_storage_that_is_not_installed_is_named(url):
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match="a.tar cannot be read"):
        loaded(None, url)


def test_without_fsspec_a_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DataError, match="pip install fsspec aiohttp"):
        loaded(None, "http://127.0.0.1:1/a.tar")
