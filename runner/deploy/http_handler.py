"""One HTTP request of `runner serve`: read within bounds, answered in JSON whatever it is, but for the page."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import re
import socket
import sys
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from PIL import UnidentifiedImageError

from .. import terminal
from ..errors import DataError
from ..files import to_json

if TYPE_CHECKING:
    from .serving import Server

PAGE, PREDICT, HEALTH = "/", "/predict", "/health"
#: Path → the methods it takes.
METHODS = {PAGE: ("GET", "HEAD"), PREDICT: ("POST",), HEALTH: ("GET", "HEAD")}
#: All paths, in words.
PATHS = f"There is GET {PAGE} for a browser, POST {PREDICT} and GET {HEALTH}."
#: The parameter of `PREDICT`: of how many classes, the most probable ones, the answer has the probabilities.
TOP = "top"
#: Most bytes of an image file.
MAX_BYTES = 32 * 2**20
#: Seconds that a client may be silent, and seconds in which its whole request must have arrived.
SILENCE_S, REQUEST_S = 20.0, 60.0
HINT = f"Send the bytes of the file themselves: curl --data-binary @photo.jpg http://HOST:PORT{PREDICT}"


def log_defect(error: BaseException | None) -> None:
    """One line about a defect: the error, and the innermost places that it came through."""
    frames = reversed(traceback.extract_tb(error.__traceback__ if error else None)[-3:])
    places = ", called by ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    print(terminal.printable(f"Error: {type(error).__name__}: {error}, at {places}"), file=sys.stderr, flush=True)


@functools.cache
def page() -> tuple[bytes, str]:
    """The page for a browser, and the policy by which it can load and ask nothing but this server."""
    content = Path(__file__).with_name("page.html").read_bytes()
    hashes = {
        name: base64.b64encode(hashlib.sha256(part).digest()).decode()
        for name, part in re.findall(rb"<(style|script)>(.*?)</", content, re.DOTALL)
    }
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes[b'style']}'; script-src 'sha256-{hashes[b'script']}'; "
        "connect-src 'self'; img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return content, policy


class _TooSlow(Exception):
    """A request did not arrive in time."""


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        self.status, self.reason = status, reason


class _Incoming(io.RawIOBase):
    """What a client sends. Errors: _TooSlow after `SILENCE_S` of silence, and after `REQUEST_S` in any case."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.end = connection, time.monotonic() + REQUEST_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if (left := self.end - time.monotonic()) <= 0:
            raise _TooSlow
        self.connection.settimeout(min(SILENCE_S, left))
        try:
            return self.connection.recv_into(buffer)
        except TimeoutError as error:
            raise _TooSlow from error


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "runner", ""
    request_version = default_request_version = "HTTP/1.0"
    #: Of a request that did not arrive, or was not understood.
    command = path = requestline = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Incoming(self.connection))

    def handle(self) -> None:
        try:
            self.handle_one_request()
        except _TooSlow:
            reason = f"The request did not arrive within {SILENCE_S:.0f} seconds of silence, {REQUEST_S:.0f} in all."
            self._send(HTTPStatus.REQUEST_TIMEOUT, {"error": reason})
        except _Refused as refused:
            self._send(refused.status, {"error": refused.reason})

    def do_GET(self) -> None:
        self._check_route()
        if self._route == PAGE:
            content, policy = page()
            self._send_bytes(HTTPStatus.OK, content, "text/html", {"Content-Security-Policy": policy})
            return
        described = self.server.deployed.manifest
        self._send(HTTPStatus.OK, {"status": "ok", "model": described.model, "classes": described.classes})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        top = self._check_route()
        length = self._length()
        if self.headers.get("Expect", "").lower() == "100-continue":
            # curl waits a second for it before it sends more than 1 MB.
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        with contextlib.ExitStack() as stack:
            self._send(HTTPStatus.OK, self._predict(self._body(length, stack), top))

    @property
    def _route(self) -> str:
        return self.path.partition("?")[0]

    def _check_route(self) -> int | None:
        """The value of `TOP`, if there is one. Errors: _Refused."""
        methods = METHODS.get(self._route)
        if methods is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"Unknown path. {PATHS}")
        if self.command not in methods:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{self._route} takes {' and '.join(methods)}. {PATHS}")
        top = None
        for name, value in parse_qsl(self.path.partition("?")[2], keep_blank_values=True):
            if self._route != PREDICT or name != TOP:
                valid = f"{PREDICT} has {TOP}" + ("" if self._route == PREDICT else f", {self._route} has none")
                raise _Refused(HTTPStatus.BAD_REQUEST, f"Unknown parameter '{name}'. Valid: {valid}.")
            if not (value.isascii() and value.isdecimal() and value.strip("0") and len(value) < 10):
                raise _Refused(HTTPStatus.BAD_REQUEST, f"{TOP}={value}: it is a whole number from 1, as {TOP}=3.")
            if top is not None:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"{TOP} is given twice. Give one.")
            top = int(value)
        return top

    def _length(self) -> int:
        """The number of bytes of the body. Errors: _Refused."""
        lengths = set(self.headers.get_all("Content-Length", []))
        if len(lengths) > 1:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"It has more than one Content-Length. {HINT}")
        length = next(iter(lengths), "")
        if self.headers.get_content_maintype() == "multipart":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"A form, as of curl -F, is not an image file. {HINT}")
        if "Transfer-Encoding" in self.headers:
            reason = f"A body in chunks is not taken: the request has to have a Content-Length. {HINT}"
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, reason)
        if not length.isdecimal():
            reason = (
                f"The Content-Length, {length}, is not a number of bytes." if length else "It has no Content-Length."
            )
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, f"{reason} {HINT}")
        if len(length.lstrip("0")) > len(str(MAX_BYTES)) or int(length) > MAX_BYTES:
            reason = f"An image file may have at most {MAX_BYTES:,} bytes."
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return int(length)

    def _body(self, length: int, stack: contextlib.ExitStack) -> bytes:
        """The body, which the server counts until the end of `stack`. Errors: _Refused, _TooSlow."""
        parts, received = list[bytes](), 0
        while received < length and (part := self.rfile.read1(min(length - received, 65_536))):
            has_room = self.server.hold(len(part))
            stack.callback(self.server.hold, -len(part))
            if not has_room:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "The server holds too many image files. Try again.")
            parts.append(part)
            received += len(part)
        if received < length:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"The body ended after {received:,} of {length:,} bytes.")
        return b"".join(parts)

    def _predict(self, content: bytes, top: int | None) -> dict[str, Any]:
        """Errors: _Refused."""
        if not content:
            raise _Refused(HTTPStatus.BAD_REQUEST, "The body is empty: is the file there?")
        try:
            return _top_classes(self.server.answer(content), top)
        except DataError as error:
            # `curl --data` leaves out the ends of lines.
            is_mangled = b"\n" not in content and b"\r" not in content
            hint = f" {HINT}" if is_mangled or isinstance(error.__cause__, UnidentifiedImageError) else ""
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{error}{hint}") from error
        except Exception as error:
            log_defect(error)
            reason = "The prediction failed. The server's log says why."
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, reason) from error

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: a request that it does not understand, or a method that has no function here."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._check_route()
        self._send(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        allowed = {"Allow": ", ".join(METHODS[self._route])} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._send_bytes(status, to_json(answer).encode(), "application/json", allowed)

    def _send_bytes(self, status: HTTPStatus, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.connection.settimeout(SILENCE_S)
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, _format: str, *arguments: Any) -> None:
        """One log line for each request, escaped because a client chooses the path."""
        if self.path != HEALTH:
            words = terminal.printable(" ".join(map(str, arguments)))
            # The end of the line with it: threads write at once.
            print(f"{time.strftime('%F %T')} {self.client_address[0]} {words}\n", end="", flush=True)


def _top_classes(answer: dict[str, Any], top: int | None) -> dict[str, Any]:
    """An answer with the probabilities of the `top` most probable classes, the highest first; None: of all."""
    if top is None:
        return answer
    best = sorted(answer["probabilities"].items(), key=lambda one: -one[1])[:top]
    return answer | {"probabilities": dict(best)}
