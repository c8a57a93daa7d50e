"""The process that workers of a sweep are forked from: `python -m runner.worker.template PARENT DESCRIPTOR`."""

from __future__ import annotations

import gc
import socket
import sys

import paddle

from .. import processes
from ..runs import forking


def main() -> None:
    """Import what every worker imports, then fork one for each request that comes through a socket."""
    parent, descriptor = map(int, sys.argv[1:])
    processes.die_with_parent(parent)
    from . import __main__ as worker

    # A child cannot use a GPU that its parent has seen.
    refusal = "this Paddle is built for GPUs" if paddle.device.is_compiled_with_cuda() else ""
    # What is there now is never looked at again for garbage, so that children share its memory.
    gc.collect()
    gc.freeze()
    forking.serve(socket.socket(fileno=descriptor), worker.main, refusal)
    processes.exit_fast(0)


if __name__ == "__main__":
    main()
