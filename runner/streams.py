"""Standard streams that never end a run: closed ones, ones that nobody reads, full disks, small alphabets."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from typing import Any

#: A reader that has left, as `| head` does, or a terminal that was closed: nothing that a user has to know.
LEFT = (errno.EPIPE, errno.EIO)


def protect() -> None:
    """Give the process standard streams that take everything. To be called before any file is opened."""
    _open_all()
    codecs.register_error("runner.escape", _escape)
    for name in ("stdout", "stderr"):
        old, number = getattr(sys, name), 1 if name == "stdout" else 2
        raw = Output(number, "wb", closefd=False)
        each_line = name == "stderr" or raw.isatty()
        encoding = getattr(old, "encoding", None) or "utf-8"
        buffer = io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffer, encoding, "runner.escape", line_buffering=each_line))


def lost() -> OSError | None:
    """Why standard output took less than was written, if a user should know: a full disk, not a reader that left."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = getattr(raw, "error", None)
    return None if error is None or error.errno in LEFT else error


class Output(io.FileIO):
    """A standard stream whose reader may leave, and whose disk may be full: the rest is dropped."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write what can be written."""
        try:
            # A stream that another program has set not to block.
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.error = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def _open_all() -> None:
    """Where a standard stream is closed (`>&-`) the next file that is opened gets its number, and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        os.set_inheritable(number, True)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What an encoding does not have, as JSON escapes it; bytes of a file's name that are not text come out as such."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end
