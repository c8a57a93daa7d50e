"""What forks stubs: `stub_template.py [a thread] PARENT DESCRIPTOR`."""

from __future__ import annotations

import socket
import sys
import threading

import stub

from runner import processes
from runner.runs import forking


def main() -> None:
    """Serve, with a thread where there is to be one."""
    *words, parent, descriptor = sys.argv[1:]
    processes.die_with_parent(int(parent))
    if words:
        threading.Thread(target=threading.Event().wait, name="of a library", daemon=True).start()
    forking.serve(socket.socket(fileno=int(descriptor)), stub.main)


if __name__ == "__main__":
    main()
