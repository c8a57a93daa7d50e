"""What a server answers: how long it may take, what is final, and what may be logged."""

from __future__ import annotations

import base64
import errno
import http.server
import socket
import threading
import time

import pytest

from runner.config.credentials import masked
from runner.tracking import answers, server
from runner.tracking.answers import CallTimeout, deadline, is_final, reason_of

PASSWORD = "s3cret-pa55"


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """A user's passwords."""
    path = tmp_path / "netrc"
    path.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


class Answers:
    """A server on loopback that answers every request in one way; the context ends it."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                answer(self)

            do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.uri

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def status(code, headers=(), body=b""):
    def answer(request):
        request.send_response(code)
        for name, value in headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def echo(request):
    """Says no, and repeats what it was sent, in the way of a proxy or of MLflow."""
    sent = request.headers.get("Authorization", "")
    body = f'{{"error_code": "PERMISSION_DENIED", "message": "Authorization: {sent} is unknown"}}'
    status(401, body=(body if "runs" in request.path else f"Authorization: {sent}").encode())(request)


def drip(request):
    """A byte now and then, for ever."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    try:
        while True:
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def failure_of(answer, call=lambda client: client.get_run("0" * 32)):
    """What a call of a client ends with, and after how many seconds."""
    began = time.monotonic()
    with Answers(answer) as uri:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            call(server.connect(uri))
        return caught.value, time.monotonic() - began


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_wants_to_be_asked_in_an_hour_is_not_waited_for(code):
    error, seconds = failure_of(status(code, [("Retry-After", "3600")]))
    assert seconds < 20
    assert not is_final(error)


def test_a_server_that_never_comes_to_an_end_is_left(monkeypatch):
    monkeypatch.setattr(answers, "CALL_S", 1.0)
    error, seconds = failure_of(drip)
    assert isinstance(error, CallTimeout)
    assert seconds < 10
    assert not is_final(error)
    assert "no complete answer" in reason_of(error)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_an_answer_that_will_stay_the_same_is_final(code):
    error, _ = failure_of(status(code, body=b"go away"))
    assert is_final(error)
    assert "go away" not in reason_of(error)
    assert str(code) in reason_of(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none"),
        NotADirectoryError(errno.ENOTDIR, "a file"),
        PermissionError(errno.EACCES, "no"),
        OSError(errno.EROFS, "read-only"),
        ModuleNotFoundError("No module named 'psycopg2'"),
        TypeError("replay() takes 1 positional argument"),
        AttributeError("no attribute"),
    ],
    ids=repr,
)
def test_an_error_that_only_a_mended_place_or_program_ends_is_final(error):
    assert is_final(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        OSError("no number"),
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
        ValueError(),
    ],
    ids=repr,
)
def test_an_error_that_may_pass_is_not_final(error):
    assert not is_final(error)


def test_an_address_that_requests_cannot_read_is_final():
    from mlflow.tracking import MlflowClient

    with pytest.raises(Exception) as caught:  # noqa: PT011
        MlflowClient(tracking_uri="http://.example").search_experiments()
    assert is_final(caught.value)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 504])
def test_an_answer_that_may_change_is_not_final(code):
    assert not is_final(failure_of(status(code))[0])


def test_nobody_listening_is_not_final():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Exception) as caught:  # noqa: PT011
        server.connect(uri)
    assert not is_final(caught.value)


def test_a_password_that_a_server_repeats_is_not_told(netrc):
    for call in (lambda client: client.search_experiments(), lambda client: client.get_run("0" * 32)):
        error, _ = failure_of(echo, call)
        sent = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        assert sent in str(error), "the server was sent it"
        assert sent not in reason_of(error) + masked(str(error))


@pytest.mark.parametrize(
    "text",
    [
        "https://me:{}@host/path", "Authorization: Basic {}", "{{'Authorization': 'Bearer {}'}}", "token={}&x=1",
        "https://host/?api_key={}", "password: {}", "MLFLOW_TRACKING_PASSWORD={}",
    ],
)  # fmt: skip
def test_credentials_are_masked_in_every_spelling(text):
    assert "abcd1234" not in masked(text.format("abcd1234"))


def test_passwords_and_tokens_of_the_environment_are_masked_anywhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-1234567")
    assert "tok-1234567" not in masked("x tok-1234567 y")


def test_a_password_that_mlflow_itself_keeps_is_masked(tmp_path, monkeypatch):
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = {PASSWORD}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    sent = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert masked(f"{PASSWORD}, {sent}.") == "***, ***."


@pytest.mark.parametrize("text", ["step 10 of 20", "http://127.0.0.1:5000 refuses run", "/a/b/run: 3 tokens"])
def test_other_text_is_left_as_it_is(text):
    assert masked(text) == text


def test_a_deadline_ends_what_waits_and_nothing_behind_it():
    with pytest.raises(CallTimeout), deadline(0.2):
        time.sleep(5)
    with deadline(0.2):
        pass
    time.sleep(0.3)
