"""The process from which workers of a sweep are forked: `python -m runner.worker.template PARENT DESCRIPTOR`."""

from __future__ import annotations

import gc
import socket
import sys

import paddle

from .. import processes
from ..runs import forking


def main() -> None:
    """Import what every worker imports, then fork a worker for each request on a socket."""
    parent, descriptor = map(int, sys.argv[1:])
    processes.die_with_parent(parent)
    from . import __main__ as worker

    # A child cannot use a GPU that its parent has initialised.
    refusal = "this Paddle is built for GPUs" if paddle.device.is_compiled_with_cuda() else ""
    # Frozen objects are never touched by the garbage collector, so children keep sharing their memory.
    gc.collect()
    gc.freeze()
    forking.serve(socket.socket(fileno=descriptor), worker.main, refusal)
    processes.exit_fast(0)


if __name__ == "__main__":
    main()
