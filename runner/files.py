"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step; it is on the disk when this returns."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(partial: Path, target: Path) -> None:
    """Give a complete folder its name; one of that name is `<name>.old` beside it until then."""
    superseded = target.with_name(f"{target.name}.old")
    if target.exists():
        shutil.rmtree(superseded, ignore_errors=True)
        os.replace(target, superseded)
    os.replace(partial, target)
    sync_folder(target.parent)
    shutil.rmtree(superseded, ignore_errors=True)


def text_digest(text: str) -> str:
    """Sixteen hexadecimal digits that change when a text does (BLAKE2b)."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def digest(arrays: Iterable[np.ndarray], start: str = "") -> str:
    """Sixteen hexadecimal digits that change when an array does (BLAKE2b)."""
    state = hashlib.blake2b(start.encode(), digest_size=8)
    for array in arrays:
        state.update(array.tobytes())
    return state.hexdigest()


def cache_folder() -> Path:
    """What is compiled or measured once per user: `$XDG_CACHE_HOME/runner`, by default `~/.cache/runner`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner"
