"""`runner serve`: what it answers, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from runner.__main__ import command
from runner.deploy import http_handler, serving
from runner.deploy.predict import Deployed
from runner.errors import ConfigError
from runner.images import Preparation
from runner.runs.journal import JOURNAL
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
    with in_thread(Deployed(helpers.export(tmp_path / "export"))) as server:
        yield server


@contextlib.contextmanager
def in_thread(deployed):
    """A server of a deployed network, which ends with the context."""
    server = serving.Server(deployed, "127.0.0.1", free_port())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def test_a_network_that_takes_no_picture_files_is_refused_before_anything_is_listened_on(monkeypatch):
    monkeypatch.setattr(serving.Server, "server_bind", lambda _server: pytest.fail("it listens"))
    deployed = SimpleNamespace(preparation=Preparation(16, 16, 5))
    with pytest.raises(ConfigError, match=r"images of 5 channels, which no picture file has"):
        serving.Server(deployed, "127.0.0.1", 0)


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
    assert ask(port, "GET", "/predict/")[0] == 404
    for length, refused in ((str(serving.MAX_BYTES + 1), 413), ("9" * 5000, 413), ("-1", 411), ("²", 411)):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = f"POST {serving.PREDICT} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode("latin-1"))
            assert f" {refused} ".encode() in connection.recv(200)
    assert ask(port, content=jpeg())[0] == 200


def exchange(port, sent, ends=True):
    """What a server answers to these bytes: its status, its head, and the rest, which it has to end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


def post(*headers, body=b"", version="1.1"):
    return "\r\n".join([f"POST {serving.PREDICT} HTTP/{version}", *headers, "\r\n"]).encode() + body


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + jpeg() + b"\r\n--x--\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(jpeg()), jpeg())
STRIPPED = jpeg()[:200].replace(b"\n", b"").replace(b"\r", b"")
WRONG = {
    "an empty body": (post("Content-Length: 0"), 400, "is empty: is the file there"),
    "a body shorter than it says": (post("Content-Length: 100", body=b"short"), 400, "after 5 of 100 bytes"),
    "no length": (post(body=jpeg()), 411, "--data-binary @photo.jpg"),
    "a negative length": (post("Content-Length: -5"), 411, "-5"),
    "two lengths": (post("Content-Length: 5", "Content-Length: 9", body=b"short"), 400, "more than one Content-Length"),
    "a length of many digits": (post("Content-Length: " + "9" * 5000), 413, "33,554,432"),
    "a body in chunks": (post("Transfer-Encoding: chunked", body=CHUNKED), 411, "--data-binary @photo.jpg"),
    "a form": (post("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {len(FORM)}", body=FORM),
               415, "--data-binary @photo.jpg"),
    "a picture without its ends of lines": (
        post("Content-Type: application/x-www-form-urlencoded", "Content-Length: 9", body=b"\x89PNGIHDR "), 400,
        "--data-binary @photo.jpg",
    ),
    "a picture that curl --data sent": (
        post(f"Content-Length: {len(STRIPPED)}", body=STRIPPED), 400, "--data-binary @photo.jpg",
    ),
    "another version": (b"POST /predict HTTP/3.0\r\n\r\n", 505, "version"),
    "an endless line": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, "URI"),
    "an endless header": (post("A: " + "a" * 70_000), 431, "too long"),
    "many headers": (post(*["A: a"] * 200), 431, "headers"),
    "an unknown path": (b"POST /Predict HTTP/1.1\r\n\r\n", 404, "POST /predict and GET /health"),
    "an unknown method and path": (b"BREW /pot HTTP/1.1\r\n\r\n", 404, "POST /predict and GET /health"),
    **{
        f"{method} of {path}": (f"{method} {path} HTTP/1.1\r\n\r\n".encode(), 405, f"takes {allowed}")
        for allowed, path, methods in (
            ("POST", serving.PREDICT, ("GET", "PUT", "OPTIONS", "DELETE", "BREW")),
            ("GET and HEAD", serving.HEALTH, ("POST", "PUT", "OPTIONS")),
            ("GET and HEAD", serving.PAGE, ("POST", "BREW")),
        )
        for method in methods
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_answered_in_json_with_what_is_wrong(served, capsys, name):
    sent, status, words = WRONG[name]
    given, head, body = exchange(served.server_port, sent)
    assert given == status
    assert words in json.loads(body)["error"]
    assert f"Content-Length: {len(body)}" in head
    assert ("Allow: " in head) == (status == 405)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert ask(served.server_port, content=jpeg())[0] == 200


def test_a_damaged_picture_is_not_answered_with_how_to_send_it(served):
    content = jpeg()[:-100]
    assert b"\n" in content
    status, answer = ask(served.server_port, content=content)
    assert status == 400
    assert "--data-binary" not in answer["error"]


def test_every_version_of_http_is_answered_once_and_the_connection_closed(served):
    length = f"Content-Length: {len(jpeg())}"
    expected = ask(served.server_port, content=jpeg())[1]
    for version, more in (("1.0", []), ("1.0", ["Connection: keep-alive"]), ("1.1", ["Connection: keep-alive"])):
        request = post(length, *more, body=jpeg(), version=version)
        for sent in (request, 3 * request):
            status, head, body = exchange(served.server_port, sent, ends=False)
            assert (status, json.loads(body)) == (200, expected)
            assert "Connection: close" in head


def test_head_is_health_without_its_content(served):
    status, head, body = exchange(served.server_port, f"HEAD {serving.HEALTH} HTTP/1.1\r\n\r\n".encode())
    assert (status, body) == (200, b"")
    assert "Content-Length: " in head
    status, head, body = exchange(served.server_port, f"HEAD {serving.PREDICT} HTTP/1.1\r\n\r\n".encode())
    assert (status, body) == (405, b"")


def test_a_client_that_sends_all_of_too_much_sees_why_it_is_refused(served):
    status, answer = ask(served.server_port, content=bytes(serving.MAX_BYTES + 4_000_000))
    assert status == 413
    assert "33,554,432 bytes" in answer["error"]


def test_what_arrives_too_slowly_is_refused_while_others_are_answered(served, monkeypatch):
    monkeypatch.setattr(http_handler, "SILENCE_S", 0.5)
    monkeypatch.setattr(http_handler, "REQUEST_S", 1.5)
    port, begun = served.server_port, time.monotonic()

    def trickle(at_once, slowly):
        """The status, and the seconds until it came."""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(at_once)
            connection.settimeout(0.1)
            for byte in slowly:
                connection.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    return connection.recv(100).split()[1], time.monotonic() - begun
            connection.settimeout(20)
            return connection.recv(100).split()[1], time.monotonic() - begun

    with ThreadPoolExecutor(60) as pool:
        head = [pool.submit(trickle, b"", post("Content-Length: 9")) for _ in range(20)]
        body = [pool.submit(trickle, post("Content-Length: 999"), b"a" * 99) for _ in range(20)]
        silent = [pool.submit(trickle, b"", b"") for _ in range(20)]
        assert ask(port, content=jpeg())[0] == 200
        for slow, seconds in ((head, 1.5), (body, 1.5), (silent, 0.5)):
            for one in slow:
                status, at = one.result(20)
                assert status == b"408"
                assert 0.95 * seconds <= at < seconds + 5
    wait_until(lambda: served._connections._value == serving.MAX_CONNECTIONS, 20)


def test_a_client_that_does_not_read_its_answer_is_let_go(served, monkeypatch):
    monkeypatch.setattr(http_handler, "SILENCE_S", 0.3)
    monkeypatch.setattr(serving, "LINGER_S", 0.1)
    # More than the buffers of both ends take.
    monkeypatch.setattr(served, "answer", lambda _content: {"class": "a" * 30_000_000})
    with socket.create_connection(("127.0.0.1", served.server_port)) as connection:
        connection.sendall(post("Content-Length: 1", body=b"a"))
        wait_until(lambda: served._connections._value < serving.MAX_CONNECTIONS, 20)
        wait_until(lambda: served._connections._value == serving.MAX_CONNECTIONS, 20)


def test_image_files_that_would_fill_the_memory_are_refused_until_there_is_room(served, monkeypatch):
    monkeypatch.setattr(serving, "MAX_HELD", 1_000_000)
    with socket.create_connection(("127.0.0.1", served.server_port)) as connection:
        connection.sendall(post("Content-Length: 1000000", body=bytes(999_999)))
        wait_until(lambda: served._held == 999_999, 20)
        status, answer = ask(served.server_port, content=jpeg())
        assert (status, "holds too many" in answer["error"]) == (503, True)
    wait_until(lambda: served._held == 0, 20)
    assert ask(served.server_port, content=jpeg())[0] == 200


def test_more_connections_than_there_is_room_for_are_refused_and_room_comes_back(served):
    port = served.server_port
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(serving.MAX_CONNECTIONS)]
    wait_until(lambda: served._connections._value == 0, 20)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        assert b" 503 " in head
        assert "busy" in json.loads(body)["error"]
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
    assert "ZeroDivisionError" in (line := capsys.readouterr().err)
    assert len(line.splitlines()) == 1
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
    assert f"There is no run {tmp_path / 'nowhere'}" in (message := capsys.readouterr().err)
    assert "`python -m runner runs`" in message
    (tmp_path / "my run" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", JOURNAL):
        (tmp_path / "my run" / name).touch()
    assert command(["serve", str(tmp_path / "my run")]) == 3
    assert f"python -m runner export '{tmp_path / 'my run'}'" in capsys.readouterr().err
    assert command(["serve", str(tmp_path / "export"), "--port", str(served.server_port)]) == 2
    assert "--port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "192.0.2.1 is not an address of this machine"), ("no.invalid", "'no.invalid' is not known"),
        ("a..b", "'a..b' is not known"), ("x" * 70, "is not known here"), ("2001:db8::1", "is not an address"),
    ],
)  # fmt: skip
def test_a_host_that_is_not_this_machine_s_is_named_and_not_the_port(tmp_path, capsys, host, words):
    helpers.export(tmp_path / "export")
    assert command(["serve", str(tmp_path / "export"), "--host", host, "--port", str(free_port())]) == 2
    assert words in (message := capsys.readouterr().err)
    assert "--host" in message
    assert "--port" not in message


@pytest.mark.parametrize("port", ["0", "99999", "http"])
def test_a_port_that_is_none_is_refused(tmp_path, capsys, port):
    with pytest.raises(SystemExit) as error:
        command(["serve", str(tmp_path), "--port", port])
    assert error.value.code == 2
    assert f"{port}: must be an integer from 1 to 65,535" in capsys.readouterr().err


def test_it_listens_on_ipv6(tmp_path):
    try:
        server = serving.Server(Deployed(helpers.export(tmp_path / "export")), "::1", free_port())
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    assert server.address_family == socket.AF_INET6
    server.server_close()


def test_an_empty_host_is_refused(tmp_path, capsys):
    helpers.export(tmp_path / "export")
    assert command(["serve", str(tmp_path / "export"), "--host", ""]) == 2
    assert "--host is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGTERM, 143, "SIGTERM"), pytest.param(signal.SIGINT, 130, "Ctrl-C", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, "SIGHUP", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_command_ends_at_once_when_it_is_asked_to(tmp_path, number, code, name):
    helpers.export(tmp_path / "export")
    port = free_port()
    process = started(tmp_path, port)
    try:
        assert ask(port, content=jpeg())[0] == 200
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == code
        assert "POST /predict" in out
        assert f"Stopped by {name}" in out
        assert "Traceback" not in out
    finally:
        process.kill()


def started(folder, port):
    """The command that serves an export, once it listens."""
    words = [sys.executable, "-m", "runner", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    assert f":{port}/predict" in process.stdout.readline()
    return process


def peak_mb(process):
    """The largest memory that a process has had so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def under_load(port, clients, requests, contents):
    """Status, answer and seconds of each request; an error in place of the status where there was none."""

    def client(number):
        results = []
        for place in range(requests):
            begun = time.monotonic()
            try:
                status, answer = ask(port, content=contents[(number + place) % len(contents)])
            except ConnectionRefusedError:
                # The server was stopped before it took the request.
                break
            except OSError as error:
                status, answer = repr(error), {}
            results.append((status, answer.get("class"), time.monotonic() - begun))
        return results

    with ThreadPoolExecutor(clients) as pool:
        return [result for results in pool.map(client, range(clients)) for result in results]


@pytest.mark.slow
def test_sixty_four_clients_are_answered_without_an_error_in_bounded_memory(tmp_path):
    port, contents = (
        free_port(),
        [jpeg(seed, size) for seed, size in enumerate([(16, 16), (60, 80), (300, 200), (900, 700)])],
    )
    process = started(helpers.export(tmp_path / "export"), port)
    try:
        before = peak_mb(process)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        results = under_load(port, 64, 50, contents)
        assert len(results) == 64 * 50
        assert {status for status, *_ in results} == {200}
        seconds = sorted(seconds for *_, seconds in results)
        after = peak_mb(process)
        print(f"p50 {1e3 * seconds[1600]:.0f} ms, p99 {1e3 * seconds[3168]:.0f} ms; {before:.0f} to {after:.0f} MB")
        assert after - before < 200
    finally:
        process.terminate()
        assert process.wait(20) == 143


def test_a_server_that_is_stopped_under_load_answers_all_that_it_took(tmp_path):
    port = free_port()
    process = started(helpers.export(tmp_path / "export"), port)
    try:
        timer = threading.Timer(0.5, process.send_signal, [signal.SIGTERM])
        threading.Thread(target=process.stdout.read, daemon=True).start()
        timer.start()
        results = under_load(port, 32, 10_000, [jpeg(), jpeg(1, (300, 200))])
        assert process.wait(20) == 143
    finally:
        process.kill()
    assert len(results) > 20
    assert {status for status, *_ in results} == {200}
