"""A worker without Paddle: does what `stub.json` of its run or the variable STUB says, a list of [what, …] a rank.

Started as the real one is: `stub.py RUN PARENT ATTEMPT`. What `mark` names appears as a file in the run directory.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from runner import processes
from runner.runs import protocol

received: list[int] = []


def main() -> None:
    """Do each step; end with exit code 0 unless one says otherwise."""
    arguments = protocol.Arguments.parse(sys.argv[1:])
    processes.die_with_parent(arguments.parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _frame: received.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heartbeat, rank = protocol.Heartbeat(), int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    own = arguments.directory / "stub.json"
    for what, *given in json.loads(own.read_text() if own.exists() else os.environ["STUB"])[rank]:
        match what:
            case "beat":
                heartbeat.beat()
            case "sleep":
                time.sleep(*given)
            case "sign":
                os.kill(arguments.parent, signal.Signals[given[0]])
            case "signal":
                os.kill(given[0], signal.Signals[given[1]])
            case "say":
                print(*given, file=sys.stderr, flush=True)
            case "tell":
                facts = {"group": os.getpgid(0), "folder": os.getcwd(), "held": sorted(os.listdir("/proc/self/fd"))}
                facts |= {"variables": dict(os.environ), "limits": resource.getrlimit(resource.RLIMIT_CORE)}
                (arguments.directory / "facts.json").write_text(json.dumps(facts))
            case "mark":
                (arguments.directory / given[0]).write_text(str(arguments.attempt))
            case "until":
                # A signal's number, or another process's mark.
                while not (signal.Signals[given[0]] in received if given[0].startswith("SIG") else _marked(given[0])):
                    time.sleep(0.01)
            case "first attempt" if arguments.attempt == 0:
                _end(*given)
            case "first attempt":
                pass
            case "behind the last step":
                with heartbeat.behind_the_last_step():
                    time.sleep(*given)
            case "fail":
                protocol.write_failure(arguments.directory, rank, *given)
                sys.exit(given[1])
            case "early":
                protocol.write_early_end(arguments.directory, *given)
            case "default":
                signal.signal(signal.Signals[given[0]], signal.SIG_DFL)
            case "stalls":
                # Until it is killed; it notes that it was asked where it is.
                while signal.SIGUSR1 not in received:
                    time.sleep(0.01)
                (arguments.directory / f"asked{rank}").touch()
                time.sleep(600)
            case _:
                _end(what)


def _marked(name: str) -> bool:
    return (Path(sys.argv[1]) / name).exists()


def _end(how: int | str) -> None:
    if isinstance(how, int):
        sys.exit(how)
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(600)


if __name__ == "__main__":
    main()
