"""Responses of a tracking server: deadlines, which errors are final, and which texts may be shown or logged."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ..config.credentials import masked
from ..errors import ServerLost, UserError

#: Seconds that a call may take, and bytes a second that an upload or download must reach beyond that.
CALL_S, BYTES_PER_S = 30.0, 100_000
#: Seconds after which a call that suppressed its deadline is interrupted again.
AGAIN_S = 2.0
#: HTTP status codes worth a retry.
LATER = (408, 425, 429)
#: Error codes of MLflow's own refusals, whose texts are meant for users.
WORDED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")


#: What a driver that is missing and a user-defined tracker with a mistake raise, every time.
DEFECTS = (ImportError, SyntaxError, NameError, AttributeError, TypeError)
#: Names of errors of requests, which MLflow hides, for addresses that nothing can be sent to.
MALFORMED = ("InvalidURL", "MissingSchema", "InvalidSchema")
#: Error numbers of a place that has to be mended first.
STANDING = {getattr(errno, name) for name in ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "EROFS", "ELOOP")}


class Refused(ServerLost):
    """A tracking server or store that will give the same answer again: retrying is useless."""


class CallTimeout(Exception):
    """A call took longer than it may."""


class _Alarm(BaseException):
    """Interrupts a wait; a BaseException, because libraries turn every Exception into one of their own."""


class Masked(io.TextIOBase):
    """A text stream that masks credentials and passes lines on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text without credentials."""
        self._stream.write(masked(text))
        self._stream.flush()
        return len(text)


def reason_of(error: BaseException) -> str:
    """One line on why a call failed; a server's text is included only if it is a refusal in MLflow's own words."""
    code = str(getattr(error, "error_code", ""))
    if code in WORDED:
        first = (str(error).splitlines() or [""])[0]
        # After these words come the request and the response.
        first = re.split(r"Response(?: body)?:", first)[0]
        return masked(first)[:300].strip().rstrip(".")
    if isinstance(error, CallTimeout):
        return f"no complete answer within {CALL_S:g} s"
    if code:
        match = re.search(r"failed with error code (\d{3})", str(error))
        return f"{code} (HTTP {match[1]})" if match else f"{code}{_cause(error)}"
    return masked(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")[:300]


def _cause(error: BaseException) -> str:
    """The error of the network or the database that MLflow's error hides."""
    for cause in _causes(error):
        if not type(cause).__module__.startswith("mlflow"):
            return f": {type(cause).__name__}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors that an error hides, the last one first."""
    while (cause := error.__cause__ or error.__context__) is not None:
        yield cause
        error = cause


def is_final(error: BaseException) -> bool:
    """Whether the same call would be answered in the same way again."""
    if isinstance(error, UserError):
        return not isinstance(error, ServerLost) or isinstance(error, Refused)
    if isinstance(error, DEFECTS) or any(type(one).__name__ in MALFORMED for one in (error, *_causes(error))):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in STANDING
    status = getattr(error, "get_http_status_code", lambda: 500)()
    match = re.search(r"failed with error code (\d{3})", str(error))
    status = int(match[1]) if match else status
    return 400 <= status < 500 and status not in LATER


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Within the context the main thread waits for nothing longer than this many seconds. Errors: CallTimeout.

    The timeouts of libraries apply to each read, so a server that sends a byte now and then would never exceed them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_number: int, _frame: FrameType | None) -> None:
        raise _Alarm

    before = signal.signal(signal.SIGALRM, late)
    # Repeatedly: the first interruption may be followed by a wait for upload threads.
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    except _Alarm as alarm:
        raise CallTimeout(f"no complete answer within {seconds:g} s") from alarm
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Timed:
    """A client of MLflow with a deadline for every call. For files see `artifacts`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **named: Any) -> Any:
            with deadline(CALL_S):
                return attribute(*arguments, **named)

        return call
