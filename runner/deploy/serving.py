"""The HTTP server of `runner serve`: predictions of one exported network, without Paddle and MLflow."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from types import FrameType
from typing import Any

from .. import processes, terminal
from ..errors import ConfigError, DataError
from .predict import Deployed, cores
from .pyfunc import Served

PREDICT, HEALTH = "/predict", "/health"
#: Most bytes of an image file, and most concurrent connections: they bound the server's memory.
MAX_BYTES, MAX_CONNECTIONS = 32 * 1024 * 1024, 32
#: Seconds that a client may be silent, and seconds in which all connections must end at shutdown.
PATIENCE_S = 20.0


class Server(ThreadingHTTPServer):
    """`POST /predict` with the bytes of an image file; `GET /health`. Each connection has its own thread."""

    # Otherwise shutdown would wait for threads indefinitely.
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, deployed: Deployed, host: str, port: int) -> None:
        """Errors: ConfigError if the address cannot be bound."""
        self.deployed, self.answers = deployed, Served(deployed)
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._computing = threading.BoundedSemaphore(cores())
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigError(f"{host}:{port} cannot be listened on: {error.strerror}. Name another --port.") from error

    def answer(self, content: bytes) -> dict[str, Any]:
        """The network's answer for an image; at most as many at a time as there are cores. Errors: DataError."""
        with self._computing:
            batch = self.deployed.prepare(content)[None]
            return self.answers.answer(self.deployed.compute(batch)[0])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, unless there are too many."""
        if not self._connections.acquire(blocking=False):
            self._refuse(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and release the connection's slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def server_close(self) -> None:
        """Stop listening, and wait until all connections are closed, at most `PATIENCE_S`."""
        super().server_close()
        end = time.monotonic() + PATIENCE_S
        closed = [self._connections.acquire(timeout=max(0.0, end - time.monotonic())) for _ in range(MAX_CONNECTIONS)]
        for _ in range(sum(closed)):
            self._connections.release()

    def _refuse(self, request: socket) -> None:
        try:
            request.settimeout(0)
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass
        finally:
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error, unless a client disconnected."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "runner", ""
    #: Of a request whose first line was not understood.
    path = ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self.path != HEALTH:
            self._send(HTTPStatus.NOT_FOUND, {"error": f"There is POST {PREDICT} and GET {HEALTH}."})
            return
        described = self.server.deployed.manifest
        self._send(HTTPStatus.OK, {"status": "ok", "model": described.model, "classes": described.classes})

    def do_POST(self) -> None:
        if self.path != PREDICT:
            self._send(HTTPStatus.NOT_FOUND, {"error": f"There is POST {PREDICT} and GET {HEALTH}."})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._send(HTTPStatus.LENGTH_REQUIRED, {"error": "The request has no Content-Length."})
        elif len(length) > len(str(MAX_BYTES)) or int(length) > MAX_BYTES:
            reason = f"An image file may have at most {MAX_BYTES:,} bytes."
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": reason})
        else:
            if self.headers.get("Expect", "").lower() == "100-continue":
                # curl waits a second for it before it sends more than 1 MB.
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if len(content := self.rfile.read(int(length))) == int(length):
                self._send(*self._predict(content))

    def _predict(self, content: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        try:
            return HTTPStatus.OK, self.server.answer(content)
        except DataError as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except Exception:
            traceback.print_exc()
            reason = "The prediction failed. The server's log says why."
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": reason}

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, _format: str, *arguments: Any) -> None:
        """One log line for each request, escaped because a client chooses the path."""
        if self.path != HEALTH:
            words = terminal.printable(" ".join(map(str, arguments)))
            terminal.say(f"{time.strftime('%F %T')} {self.client_address[0]} {words}")


def serve(server: Server) -> None:
    """Serve until SIGINT or SIGTERM; requests that have begun are finished, within `PATIENCE_S`."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        # `shutdown` waits for the loop that runs in this very thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in processes.stopping()}
    try:
        server.serve_forever()
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
