"""One HTTP request of `runner serve`: read within bounds, answered in JSON whatever it is."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import UnidentifiedImageError

from .. import terminal
from ..errors import DataError

if TYPE_CHECKING:
    from .serving import Server

PREDICT, HEALTH = "/predict", "/health"
#: Path → the methods it takes.
METHODS = {PREDICT: ("POST",), HEALTH: ("GET", "HEAD")}
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
        described = self.server.deployed.manifest
        self._send(HTTPStatus.OK, {"status": "ok", "model": described.model, "classes": described.classes})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._check_route()
        length = self._length()
        if self.headers.get("Expect", "").lower() == "100-continue":
            # curl waits a second for it before it sends more than 1 MB.
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        with contextlib.ExitStack() as stack:
            self._send(HTTPStatus.OK, self._predict(self._body(length, stack)))

    def _check_route(self) -> None:
        """Errors: _Refused."""
        methods = METHODS.get(self.path.partition("?")[0])
        if methods is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"Unknown path. There is POST {PREDICT} and GET {HEALTH}.")
        if self.command not in methods:
            reason = f"{self.path} takes {' and '.join(methods)}. There is POST {PREDICT} and GET {HEALTH}."
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, reason)

    def _length(self) -> int:
        """The number of bytes of the body. Errors: _Refused."""
        length = self.headers.get("Content-Length", "")
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

    def _predict(self, content: bytes) -> dict[str, Any]:
        """Errors: _Refused."""
        try:
            return self.server.answer(content)
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
        content = json.dumps(answer, allow_nan=False).encode()
        self.connection.settimeout(SILENCE_S)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(METHODS[self.path.partition("?")[0]]))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, _format: str, *arguments: Any) -> None:
        """One log line for each request, escaped because a client chooses the path."""
        if self.path != HEALTH:
            words = terminal.printable(" ".join(map(str, arguments)))
            # The end of the line with it: threads write at once.
            print(f"{time.strftime('%F %T')} {self.client_address[0]} {words}\n", end="", flush=True)
