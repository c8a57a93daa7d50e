"""A home folder for the libraries that insist on writing into one."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path

log = logging.getLogger("runner")
#: Below the home folder: where Paddle 3.3.1 writes what it traces, wherever caches are said to be.
TRACED = ".cache/paddle/to_static_tmp"


@functools.cache
def environment() -> dict[str, str]:
    """What processes need to have a home folder that can be written; nothing where they have.

    Containers run as users without one, and clusters mount it for reading. Another one is gone with this process.
    """
    home = os.path.expanduser("~")
    if os.path.isabs(home) and _can_be_written(Path(home) / TRACED):
        return {}
    try:
        found = {"HOME": _temporary().name}
    except OSError as error:
        log.warning("The home folder %s cannot be written, nor a temporary one (HOME, TMPDIR): %s", home, error)
        return {}
    log.warning(
        "%s: a temporary one is used, and what is compiled is compiled again each time. HOME names another one.",
        f"The home folder {home} cannot be written" if os.path.isabs(home) else "There is no home folder",
    )
    # Passwords of servers are still where they were.
    if os.path.isabs(home) and (netrc := Path(home) / ".netrc").is_file():
        found["NETRC"] = os.environ.get("NETRC", str(netrc))
    return found


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="runner-home-")


def _can_be_written(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
