"""`runner serve`: what it answers, what it refuses, how it ends."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from runner.__main__ import command
from runner.deploy import serving
from runner.deploy.predict import Deployed
from tests.deploy import helpers
from tests.e2e.processes import free_port, wait_until


def jpeg(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def ask(port, method="POST", path=serving.PREDICT, content=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, content or None, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


@pytest.fixture
def served(tmp_path):
    """A server in a thread of this process, and what it serves."""
    deployed = Deployed(helpers.export(tmp_path / "export"))
    server = serving.Server(deployed, "127.0.0.1", free_port())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(20)


def test_it_says_what_the_network_says(served):
    port = served.server_port
    for seed in range(2):
        status, answer = ask(port, content=jpeg(seed))
        expected = served.deployed([jpeg(seed)])[0]
        assert status == 200
        assert answer["class"] == helpers.CLASSES[expected.argmax()]
        np.testing.assert_array_equal(np.float32(list(answer["probabilities"].values())), expected)
    assert ask(port, "GET", serving.HEALTH) == (
        200, {"status": "ok", "model": served.deployed.manifest.model, "classes": helpers.CLASSES},
    )  # fmt: skip


def test_many_clients_at_a_time_are_answered_alike(served):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(served.server_port, content=jpeg()), range(16)))
    assert answers == [answers[0]] * 16


def test_what_is_no_picture_and_what_is_too_much_is_refused_and_the_next_one_answered(served):
    port = served.server_port
    status, answer = ask(port, content=b"no picture")
    assert status == 400
    assert answer["error"]
    assert ask(port, path="/etc/passwd", content=jpeg())[0] == 404
    assert ask(port, "GET", "/")[0] == 404
    for length, refused in ((str(serving.MAX_BYTES + 1), 413), ("9" * 5000, 413), ("-1", 411), ("²", 411)):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = f"POST {serving.PREDICT} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode("latin-1"))
            assert f" {refused} ".encode() in connection.recv(200)
    assert ask(port, content=jpeg())[0] == 200


def test_more_connections_than_there_is_room_for_are_refused_and_room_comes_back(served):
    port = served.server_port
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(serving.MAX_CONNECTIONS)]
    wait_until(lambda: served._connections._value == 0, 20)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        assert b" 503 " in connection.recv(200)
    for connection in open_ones:
        connection.close()
    wait_until(lambda: served._connections._value == serving.MAX_CONNECTIONS, 20)
    assert ask(port, content=jpeg())[0] == 200


def test_a_request_under_way_is_answered_before_the_server_is_closed(served, monkeypatch):
    begun, prepare = threading.Event(), served.deployed.prepare

    def slow(content):
        begun.set()
        time.sleep(0.5)
        return prepare(content)

    monkeypatch.setattr(served.deployed, "prepare", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, served.server_port, content=jpeg())
        assert begun.wait(20)
        served.shutdown()
        served.server_close()
        assert served._connections._value == serving.MAX_CONNECTIONS
        assert answer.result(20)[0] == 200


def test_a_client_that_says_nothing_holds_the_end_up_no_longer_than_patience(served, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE_S", 0.2)
    with socket.create_connection(("127.0.0.1", served.server_port)):
        wait_until(lambda: served._connections._value < serving.MAX_CONNECTIONS, 20)
        served.shutdown()
        begun = time.monotonic()
        served.server_close()
        assert 0.2 <= time.monotonic() - begun < 5


def test_a_defect_is_answered_with_500_and_logged(served, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(served.deployed, "compute", lambda _batch: 1 / 0)
        status, answer = ask(served.server_port, content=jpeg())
    assert status == 500
    assert "log" in answer["error"]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert ask(served.server_port, content=jpeg())[0] == 200


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n", b"GET\n\n", b"one two three four\r\n\r\n"])
def test_what_is_no_request_is_answered_with_400_and_a_line_in_the_log(served, capsys, sent):
    with socket.create_connection(("127.0.0.1", served.server_port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b"400" in connection.makefile("rb").read()
    assert ask(served.server_port, content=jpeg())[0] == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_client_that_asks_whether_to_go_on_is_told_so_unless_it_is_too_much(served):
    content = jpeg()
    for length, line in ((len(content), b"HTTP/1.1 100 Continue"), (serving.MAX_BYTES + 1, b"HTTP/1.0 413 ")):
        with socket.create_connection(("127.0.0.1", served.server_port), timeout=20) as connection:
            head = f"POST {serving.PREDICT} HTTP/1.1\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(200).startswith(line)
            if length == len(content):
                connection.sendall(content)
                assert connection.recv(200).startswith(b"HTTP/1.0 200 ")


def test_a_folder_without_an_export_and_a_port_that_is_taken_are_refused(tmp_path, served, capsys):
    assert command(["serve", str(tmp_path / "nowhere")]) == 3
    assert "runner export" in capsys.readouterr().err
    assert command(["serve", str(tmp_path / "export"), "--port", str(served.server_port)]) == 2
    assert "--port" in capsys.readouterr().err


def test_an_empty_host_is_refused(tmp_path, capsys):
    helpers.export(tmp_path / "export")
    assert command(["serve", str(tmp_path / "export"), "--host", ""]) == 2
    assert "--host is empty" in capsys.readouterr().err


def test_the_command_ends_at_once_when_it_is_asked_to(tmp_path):
    helpers.export(tmp_path / "export")
    port = free_port()
    words = [sys.executable, "-m", "runner", "serve", str(tmp_path), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    try:
        assert f":{port}/predict" in process.stdout.readline()
        assert ask(port, content=jpeg())[0] == 200
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "POST /predict" in out
        assert "Traceback" not in out
    finally:
        process.kill()
