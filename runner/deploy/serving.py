"""The HTTP server of `runner serve`: predictions of one exported network, without Paddle and MLflow."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from types import FrameType
from typing import Any

from .. import processes
from ..errors import ConfigError
from .http_handler import HEALTH, MAX_BYTES, PAGE, PREDICT, Handler, log_defect
from .picture_forms import require_files
from .predict import Deployed, cores
from .pyfunc import Served

__all__ = ["HEALTH", "MAX_BYTES", "MAX_CONNECTIONS", "PAGE", "PREDICT", "Server", "serve"]

#: Most concurrent connections, and most bytes of all image files that are being received or wait: with `MAX_BYTES` they
#: bound the server's memory.
MAX_CONNECTIONS, MAX_HELD = 128, 512 * 2**20
#: Seconds in which a client that was answered may go on sending: a connection that is closed before is reset, and the
#: answer with it.
LINGER_S = 3.0
#: Seconds in which all connections must end at shutdown; `docker stop` kills after 10.
PATIENCE_S = 8.0


class Server(ThreadingHTTPServer):
    """`POST /predict` with the bytes of an image file; `GET /health`; `GET /`, a page for a browser.

    A connection has one request and one thread.
    """

    # Otherwise shutdown would wait for threads indefinitely.
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, deployed: Deployed, host: str, port: int) -> None:
        """Errors: ConfigError if the network takes no picture files, or the address cannot be bound."""
        require_files(deployed.preparation)
        self.deployed, self.answers = deployed, Served(deployed)
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._computing = threading.BoundedSemaphore(cores())
        self._held, self._lock = 0, threading.Lock()
        self._refused = deque[tuple[float, socket.socket]]()
        try:
            families = [family for family, *_ in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            # The base class has IPv4 alone, which names such as localhost continue to mean.
            self.address_family = socket.AF_INET if socket.AF_INET in families else families[0]
            super().__init__((host, port), Handler)
        except (OSError, UnicodeError) as error:
            raise ConfigError(_why_not(host, port, error)) from error

    def server_bind(self) -> None:
        """Bind, without looking the host's full name up, which can take many seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def answer(self, content: bytes) -> dict[str, Any]:
        """The network's answer for an image; at most as many at a time as there are cores. Errors: DataError."""
        with self._computing:
            batch = self.deployed.prepare(content)[None]
            return self.answers.answer(self.deployed.compute(batch)[0])

    def hold(self, size: int) -> bool:
        """Count bytes that are in memory, or with a negative size no longer are. Returns whether there is room."""
        with self._lock:
            self._held += size
            return self._held <= MAX_HELD

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, unless there are too many."""
        if self._connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:
                # The system has no more threads.
                self._connections.release()
            else:
                return
        self._refuse(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and release the connection's slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, once the client has closed it or after `LINGER_S`."""
        end = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                request.settimeout(left)
                if not request.recv(65_536):
                    break
        self.close_request(request)

    def service_actions(self) -> None:
        """Close refused connections `LINGER_S` later."""
        while self._refused and self._refused[0][0] < time.monotonic() - LINGER_S:
            self.close_request(self._refused.popleft()[1])

    def server_close(self) -> None:
        """Stop listening, and wait until all connections are closed, at most `PATIENCE_S`."""
        # Closing would reset the connections that the system has taken already.
        with contextlib.suppress(OSError):
            _take_no_more(self.socket)
        with contextlib.suppress(OSError):
            self.socket.setblocking(False)
            for _ in range(2 * MAX_CONNECTIONS):
                self.process_request(*self.get_request())
        super().server_close()
        end = time.monotonic() + PATIENCE_S
        closed = [self._connections.acquire(timeout=max(0.0, end - time.monotonic())) for _ in range(MAX_CONNECTIONS)]
        for _ in range(sum(closed)):
            self._connections.release()
        for _, request in self._refused:
            self.close_request(request)

    def _refuse(self, request: socket.socket) -> None:
        content = json.dumps({"error": "The server is busy. Try again in a second."}).encode()
        head = "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json; charset=utf-8\r\n"
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            request.shutdown(socket.SHUT_WR)
        self._refused.append((time.monotonic(), request))
        if len(self._refused) > MAX_CONNECTIONS:
            self.close_request(self._refused.popleft()[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error, unless a client disconnected."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            log_defect(error)


def _take_no_more(listening: socket.socket) -> None:
    """Have the system ignore who asks for a connection, which asks again a second later and is refused then.

    A filter (SO_ATTACH_FILTER, Linux) of one instruction, which drops every packet to the listening socket; those of
    its connections are not affected.
    """
    if sys.platform == "linux":
        attach_filter, return_constant = 26, 0x06
        instruction = ctypes.create_string_buffer(struct.pack("HBBI", return_constant, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(instruction))
        listening.setsockopt(socket.SOL_SOCKET, attach_filter, program)


def _why_not(host: str, port: int, error: OSError | UnicodeError) -> str:
    """Why an address cannot be listened on, and what to do."""
    start = f"{host}:{port} cannot be listened on: "
    if isinstance(error, (socket.gaierror, UnicodeError)):
        reason = f"the host '{host}' is not known here. Name an address of this machine, such as --host 127.0.0.1, or"
        return f"{start}{reason} 0.0.0.0 for all of them."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{start}{host} is not an address of this machine. Name one, or --host 0.0.0.0 for all of them."
    if error.errno == errno.EACCES:
        return f"{start}{error.strerror}. Name another --port; those below 1024 need privileges."
    return f"{start}{error.strerror}. Name another --port."


def serve(server: Server) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; requests that have begun are finished, within `PATIENCE_S`.

    Returns the signal.
    """
    signals = list[int]()

    def stop(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        # `shutdown` waits for the loop that runs in this very thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in processes.stopping()}
    try:
        server.serve_forever()
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return signals[0]
