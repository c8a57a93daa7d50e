"""What a child process owes its parent."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import signal
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with all that Python does at an exit, but without taking Paddle apart, which takes 0.4 s."""
    logging.shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the one that started it dies (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)
