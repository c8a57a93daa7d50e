"""The process that mirrors a run while it trains: `python -m runner.tracking RUN`.

It follows the journal until the run has ended, or until its parent is gone, which closes standard input. Training never
waits for a server; and a run whose command was killed still ends as FAILED.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import store
from ..errors import ProcessLost
from ..journal import CONFIG, LOCK, RANKS, Journal, events, locked
from .mirror import Mirror

log = logging.getLogger("runner.tracking")

#: Seconds between two looks at the journal, and the longest wait after a failure.
POLL_S, RETRY_S = 0.5, 15.0
#: How often an end is tried to be delivered once nobody waits for it any more.
LAST_TRIES = 2
#: Events after which a run is known to go on, or to have ended.
ENDS = ("started", "resumed", "ended")


def main() -> None:
    """Follow a run to its end."""
    directory = Path(sys.argv[1])
    # Ctrl-C and SLURM's SIGTERM reach every process of the job: this one ends when the run has.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Training has the first claim on every core.
    os.nice(19)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # The mirror of an earlier attempt may still be at work.
    with locked(directory / RANKS / "tracking.lock"):
        config = store.read(directory / CONFIG)
        assert isinstance(config.tracking, cfg.Mlflow)
        sys.exit(0 if follow(Mirror(directory, config, config.tracking)) else 1)


def follow(mirror: Mirror) -> bool:
    """Deliver until the run has ended, or as long as somebody waits for it. Whether everything was delivered."""
    parent, attempt = Parent(), attempts(mirror.directory)
    wait, failures = POLL_S, 0
    while True:
        try:
            ended = mirror.replay()
            wait, failures = POLL_S, 0
            if parent.last_word and not ended:
                mirror.end(parent.last_word)
                ended = True
            if ended:
                return True
        except Exception as error:
            log.warning("not delivered yet, trying again in %.1f s: %s", wait, error)
            wait, failures = min(2 * wait, RETRY_S), failures + 1
        if parent.gone:
            taken_over = attempts(mirror.directory) > attempt
            if taken_over or (closed(mirror.directory, parent) and failures >= LAST_TRIES):
                return False
        parent.listen(wait)


def attempts(directory: Path) -> int:
    """How often a run was started or resumed."""
    return sum(event["event"] in ("started", "resumed") for event, _ in events(directory))


class Parent:
    """The command that waits for this process, at the other end of standard input."""

    def __init__(self) -> None:
        self.gone = False
        self.last_word: dict[str, Any] | None = None
        """The end of the run, where the journal could not take it."""

    def listen(self, seconds: float) -> None:
        """Wait for a word of the parent, at most so long; an empty line only wakes."""
        if self.gone:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            word = os.read(0, 1 << 16)
            self.gone = not word
            if word.strip():
                self.last_word = json.loads(word)


def closed(directory: Path, parent: Parent) -> bool:
    """Note the end of a run whose command is gone. Whether it has ended; not while its worker is still dying."""
    with locked(directory / LOCK, wait=False) as lock:
        ended = [event["event"] == "ended" for event, _ in events(directory) if event["event"] in ENDS][-1:]
        if lock is None or ended == [True]:
            return ended == [True]
        reason = "the command that supervised the run was killed"
        end = {"status": "FAILED", "reason": reason, "exit_code": ProcessLost.exit_code}
        try:
            Journal(directory).append("ended", **end)
        except OSError:
            parent.last_word = end | {"time": time.time()}
    return True


if __name__ == "__main__":
    main()
