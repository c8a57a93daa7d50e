"""Digests: short texts that change when their content does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np


def digest_of(parts: Iterable[str | bytes | np.ndarray], size: int = 8) -> str:
    """`2 * size` hexadecimal digits of the concatenated parts (BLAKE2b)."""
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        match part:
            case str():
                # Names of files need not be text.
                state.update(part.encode("utf-8", "surrogatepass"))
            case bytes():
                state.update(part)
            case _:
                state.update(part.tobytes())
    return state.hexdigest()


def content_digest(parts: Iterable[bytes]) -> str:
    """Thirty-two hexadecimal digits of content that must be intact to the last byte."""
    return digest_of(parts, size=16)


def stream_digest(stream: BinaryIO) -> str:
    """`content_digest` of what is left of an open file, of which 1 MiB is in memory at a time."""
    return content_digest(iter(lambda: stream.read(1 << 20), b""))


def file_digest(path: Path) -> str:
    """`content_digest` of a file. Errors: OSError."""
    with path.open("rb") as stream:
        return stream_digest(stream)


def text_digest(text: str) -> str:
    """Sixteen hexadecimal digits that change when a text does."""
    return digest_of([text])
